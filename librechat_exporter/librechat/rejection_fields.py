"""The reason why LibreChat rejected a request, as a failed message tells it."""

from librechat_exporter.librechat.expressions import Expression, text, trimmed, when

_LONGEST_ERROR = 65_536
# A text could quote anything, so nothing else becomes a label. The values of the enums ErrorTypes and ViolationTypes of
# the npm package librechat-data-provider, here of 0.8.524; tests/test_rejections.py compares them with the newest.
REASONS = (
    *("no_user_key", "expired_user_key", "invalid_user_key", "no_base_url", "invalid_base_url", "moderation"),
    *("INPUT_LENGTH", "invalid_request_error", "invalid_action_error", "no_system_messages", "google_error"),
    *("google_tool_conflict", "google_video_unprocessable", "resource_recovery_required"),
    *("stateful_code_environment_not_allowed", "code_workspace_unavailable", "invalid_agent_provider"),
    *("missing_model", "models_not_loaded", "endpoint_models_not_loaded", "auth_failed", "auth_rate_limited"),
    *("auth_banned", "auth_cross_origin", "refusal", "stream_expired", "model_not_found", "model_rate_limit"),
    *("upstream_model_error", "empty_messages", "final_context_overflow", "compaction_skipped", "compaction_failed"),
    *("file_upload_limit", "illegal_model_request", "token_balance", "ban", "tts_limit", "stt_limit"),
    *("reset_password_limit", "verify_email_limit", "convo_access", "tool_call_limit", "general", "logins"),
    *("concurrent", "non_browser", "message_limit", "registrations", "share_limit"),
)


def _error_type(error: Expression) -> Expression:
    """The text after `"type":` in LibreChat's own JSON, quoted with blanks or without; null if there is none."""
    after_type = {"$arrayElemAt": [{"$split": [error, '"type"']}, 1]}
    quoted = {"$split": [{"$ifNull": [after_type, ""]}, '"']}
    is_value = {"$eq": [trimmed({"$arrayElemAt": [quoted, 0]}), ":"]}
    return when(is_value, {"$arrayElemAt": [quoted, 1]}, None)


_ERROR_PARTS = {
    "$filter": {
        "input": when({"$isArray": "$content"}, "$content", []),
        "as": "part",
        "cond": {"$eq": ["$$part.type", "error"]},
    }
}
# Why LibreChat rejected a request, as it writes it into the failed message: its place in REASONS, -1 for anything else.
REASON = {
    "$indexOfArray": [
        list(REASONS),
        {
            "$ifNull": [
                _error_type(text("$text", _LONGEST_ERROR)),
                {
                    "$arrayElemAt": [
                        {
                            "$map": {
                                "input": _ERROR_PARTS,
                                "as": "part",
                                "in": _error_type(text("$$part.error", _LONGEST_ERROR)),
                            }
                        },
                        0,
                    ]
                },
            ]
        },
    ]
}
