FROM python:3.13-slim-bookworm AS build
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir uv==0.13.8
WORKDIR /app
COPY pyproject.toml uv.lock ./
RUN uv sync --locked
COPY metrics.py LICENSE ./
COPY librechat_exporter ./librechat_exporter
COPY historic-analysis/export_metrics.py ./historic-analysis/
RUN .venv/bin/python -m compileall -q metrics.py librechat_exporter historic-analysis \
    && install -d -o 10001 -g 10001 /state
# All that the final image has: no shell, no package manager.
COPY tools/rootfs.py ../
RUN .venv/bin/python ../rootfs.py /app /rootfs

FROM scratch
LABEL org.opencontainers.image.title="LibreChat exporter" \
      org.opencontainers.image.description="Prometheus exporter for LibreChat: true counters, cheap scrapes" \
      org.opencontainers.image.licenses="MIT"
ENV PATH=/app/.venv/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STATE_PATH=/state/ledger.sqlite
WORKDIR /app
COPY --from=build /rootfs /
COPY --from=build --chown=10001:10001 /state /state
USER 10001:10001
# All that the exporter writes; the root filesystem may be read-only.
VOLUME /state
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-m", "librechat_exporter.healthcheck"]
CMD ["python", "metrics.py"]
