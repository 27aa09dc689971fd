"""Errors in the form that OpenAI's interface gives them, which its clients turn into exceptions.

{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}
"""

from collections.abc import Mapping

from starlette.responses import JSONResponse

from ch07.utils.errors import InputError

RETRY_SECONDS = 2  # after which a client may ask again when the server was busy


class ApiError(InputError):
    """A request that can't be answered: `param` is the field at fault, `code` is for programs."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})


def server_busy(message: str, code: str) -> ApiError:
    """503, and when to ask again."""
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return ApiError(message, status=503, code=code, headers=headers)


def error_body(error: ApiError) -> dict[str, object]:
    """The JSON of an error."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    details = {"message": str(error), "type": kind, "param": error.param, "code": error.code}
    return {"error": details}


def error_response(error: ApiError) -> JSONResponse:
    """The answer to a request with an error."""
    return JSONResponse(error_body(error), error.status, error.headers)
