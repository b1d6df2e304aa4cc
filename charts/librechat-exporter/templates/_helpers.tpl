{{/* The release's name says what it is, or is made to. */}}
{{- define "librechat-exporter.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "librechat-exporter.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "librechat-exporter.labels" -}}
{{ include "librechat-exporter.selector" . }}
app.kubernetes.io/part-of: librechat
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* An environment variable (name, secret, key). */}}
{{- define "librechat-exporter.fromSecret" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end }}

{{/* A probe (the root, a path). The kubelet can send no secret: where a password is wanted, the health check asks. */}}
{{- define "librechat-exporter.probe" -}}
{{- $web := (index . 0).Values.web }}
{{- if $web.basicAuth.secretName -}}
exec:
  command: [python, -m, librechat_exporter.healthcheck, {{ index . 1 }}]
{{- else -}}
httpGet:
  path: {{ index . 1 }}
  port: metrics
  {{- if eq $web.scheme "HTTPS" }}
  scheme: HTTPS
  {{- end }}
{{- end }}
{{- end }}
