"""What a user pool serves under its domain: sign-in pages and the OAuth 2.0 endpoints.

On AWS a domain is `https://<prefix>.auth.<region>.amazoncognito.com`; here it is `/_domains/<prefix>`
at the local cloud's own address. What is deployed holds the addresses of AWS, and they are compared
as such; they are translated where a browser or a request goes on.

Sources: Cognito developer guide, "Identity provider and relying party endpoints", "Authorize
endpoint", "Token endpoint", "userInfo endpoint" and "Login endpoint".
"""

import base64
import binascii
import html
import json
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote_plus, urlencode

import jwt
from moto.cognitoidp.exceptions import NotAuthorizedError
from moto.cognitoidp.models import CognitoIdpUserPool, UserStatus, cognitoidp_backends
from moto.core.exceptions import JsonRESTError
from werkzeug.wrappers import Request, Response

from . import cognito_federation, oauth
from .cognito import Hosted, Issue, Refused
from .cognito_federation import RelyingParty
from .gate import Gate
from .managed_login import at_loopback
from .oauth import Asked, OneTime, PageError, RedirectError, same

PREFIX = "/_domains/"

_CSRF = "XSRF-TOKEN"
_BINDING = "csrf-state"
_NATIVE = "COGNITO"

Value = TypeVar("Value")


@dataclass(frozen=True)
class _Code:
    """A sign-in that is not redeemed yet."""

    asked: Asked
    username: str = field(repr=False)


class _TokenError(Exception):
    """What the token endpoint answers; `description` names nothing secret."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description


class Domains:
    """WSGI application of every domain of one account and Region."""

    def __init__(self, account: str, region: str, issue: Issue, refused: Refused) -> None:
        self._account = account
        self._region = region
        self._issue = issue
        self._refused = refused
        self._codes: OneTime[_Code] = OneTime()
        self._abroad = RelyingParty(region)

    def register(self, gate: Gate) -> None:
        """Serve the domains at the gate."""
        gate.route(PREFIX, self)
        cognito_federation.register(gate)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        prefix, _, path = request.path.removeprefix(PREFIX).partition("/")
        try:
            answer = self._answer(request, prefix, path)
        except RedirectError as error:
            self._refused(path, str(error))
            answer = self._redirect(request, error.location)
        except PageError as error:
            self._refused(path, str(error))
            answer = _page(f"<p>{html.escape(error.description)}</p>", 400)
        except _TokenError as error:
            self._refused(path, str(error))
            status = 401 if path == "oauth2/userInfo" else 400
            answer = _json({"error": error.error, "error_description": error.description}, status)
        return answer(environ, start_response)

    def _answer(self, request: Request, prefix: str, path: str) -> Response:
        endpoints: dict[tuple[str, str], Callable[[Request, CognitoIdpUserPool, str], Response]] = {
            ("GET", "oauth2/authorize"): self._authorize,
            ("GET", "login"): self._show_login,
            ("POST", "login"): self._login,
            ("GET", "oauth2/idpresponse"): self._come_back,
            ("POST", "oauth2/token"): self._token,
            ("GET", "oauth2/userInfo"): self._user_info,
        }
        endpoint = endpoints.get((request.method, path))
        cognito = cognitoidp_backends[self._account][self._region]
        domain = cognito.user_pool_domains.get(prefix)
        pool = cognito.user_pools.get(domain.user_pool_id) if domain else None
        if endpoint is None or pool is None:
            raise PageError("not_found", "There is no such page.")
        return endpoint(request, pool, prefix)

    # --- Signing in -------------------------------------------------------------------------------

    def _authorize(self, request: Request, pool: CognitoIdpUserPool, prefix: str) -> Response:
        asked = oauth.read(pool, request.args)
        supported = oauth.providers(asked)
        chosen = asked.provider or (supported[0] if len(supported) == 1 else None)
        if chosen is None or chosen == _NATIVE:
            return self._redirect(request, f"{self._address(prefix)}/login?{request.query_string.decode()}")
        location, binding = self._abroad.depart(asked, chosen, self._callback(prefix))
        answer = self._redirect(request, location)
        answer.set_cookie(_BINDING, binding, path=PREFIX + prefix, httponly=True, samesite="Lax")
        return answer

    def _show_login(self, request: Request, pool: CognitoIdpUserPool, prefix: str) -> Response:
        asked = oauth.read(pool, request.args)
        token = secrets.token_urlsafe(24)
        answer = _page(_login_form(asked, request, PREFIX + prefix, token))
        answer.set_cookie(_CSRF, token, path=PREFIX + prefix, httponly=True, samesite="Lax")
        return answer

    def _login(self, request: Request, pool: CognitoIdpUserPool, prefix: str) -> Response:
        asked = oauth.read(pool, request.args)
        given, kept = request.form.get("_csrf", ""), request.cookies.get(_CSRF, "")
        if not kept or not same(given, kept):
            raise PageError("invalid_request", "The form is not this browser's; open the sign-in page again.")
        if _NATIVE not in oauth.providers(asked):
            raise RedirectError(asked, "unauthorized_client", "the client's users sign in at an identity provider")
        user = pool._get_user(request.form.get("username", ""))
        known = user is not None and user.enabled and user.status == UserStatus.CONFIRMED
        if not known or not user.password or not same(user.password, request.form.get("password", "")):
            raise PageError(
                "access_denied", "Incorrect username or password, or the first password is not changed yet."
            )
        return self._give_code(request, asked, user.username)

    def _come_back(self, request: Request, pool: CognitoIdpUserPool, prefix: str) -> Response:
        asked, username = self._abroad.arrive(
            pool,
            request.args,
            request.cookies.get(_BINDING, ""),
            self._callback(prefix),
            request.host_url.rstrip("/"),
        )
        return self._give_code(request, asked, username)

    def _give_code(self, request: Request, asked: Asked, username: str) -> Response:
        return self._redirect(request, asked.back(code=self._codes.keep(_Code(asked, username))))

    # --- Tokens -----------------------------------------------------------------------------------

    def _token(self, request: Request, pool: CognitoIdpUserPool, prefix: str) -> Response:
        if any(len(values) > 1 for _, values in request.form.lists()):
            raise _TokenError("invalid_request", "a parameter stands twice")
        client = _authenticated(request, pool)
        match request.form.get("grant_type"):
            case "authorization_code":
                return _json(self._redeem(request, pool, client))
            case "refresh_token":
                return _json(_refresh(request, pool, client))
        raise _TokenError("unsupported_grant_type", "expected authorization_code or refresh_token")

    def _redeem(self, request: Request, pool: CognitoIdpUserPool, client: Any) -> dict[str, Any]:
        # Taken before it is looked at: whoever presents it wrongly has used it up.
        code = self._codes.take(request.form.get("code", ""))
        if code is None:
            raise _TokenError("invalid_grant", "the code is not known, too old, or was used already")
        asked = code.asked
        if asked.pool is not pool or asked.client_id != client.id:
            raise _TokenError("invalid_grant", "the code was given to another client")
        if request.form.get("redirect_uri") != asked.redirect_uri:
            raise _TokenError("invalid_grant", "the redirect_uri is not that of the code")
        if not asked.verified_by(request.form.get("code_verifier")):
            raise _TokenError("invalid_grant", "the code_verifier doesn't go with the code")
        tokens = _issued(lambda: self._issue(pool, client.id, code.username, Hosted(asked.scope, asked.nonce)))
        if "openid" not in asked.scope.split():
            del tokens["id_token"]
        return tokens

    def _user_info(self, request: Request, pool: CognitoIdpUserPool, prefix: str) -> Response:
        token = request.headers.get("Authorization", "").partition(" ")[2].strip()
        if token not in pool.access_tokens:
            raise _TokenError("invalid_token", "the access token is none of this user pool's")
        # Issued here, so its signature says nothing more.
        claims = jwt.decode(token, options={"verify_signature": False})
        if time.time() >= claims["exp"]:
            raise _TokenError("invalid_token", "the access token has expired")
        scope = str(claims.get("scope", "")).split()
        user = pool.users.get(claims["username"])
        if "openid" not in scope or user is None or not user.enabled:
            raise _TokenError("invalid_token", "the access token is not for reading attributes")
        names = {"sub"} | ({"email", "email_verified"} if "email" in scope else set())
        names |= {"name"} if "profile" in scope else set()
        attributes = {name: value for name, value in user.attribute_lookup.items() if name in names}
        return _json({**attributes, "sub": user.id, "username": user.username})

    # --- Addresses --------------------------------------------------------------------------------

    def _address(self, prefix: str) -> str:
        return f"https://{prefix}.auth.{self._region}.amazoncognito.com"

    def _callback(self, prefix: str) -> str:
        return f"{self._address(prefix)}/oauth2/idpresponse"

    def _redirect(self, request: Request, location: str) -> Response:
        at = at_loopback(location, self._region, request.host_url.rstrip("/"))
        return Response(status=302, headers={"Location": at, "Cache-Control": "no-store"})


def _authenticated(request: Request, pool: CognitoIdpUserPool) -> Any:
    """The app client, which has proved its secret if it has one."""
    client_id, secret = request.form.get("client_id", ""), request.form.get("client_secret", "")
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise _TokenError("invalid_client", "the Authorization header can't be read") from None
        named, _, secret = (unquote_plus(part) for part in decoded.partition(":"))
        if client_id not in ("", named):
            raise _TokenError("invalid_client", "header and body name different clients")
        client_id = named
    client = pool.clients.get(client_id)
    if client is None or not same(client.secret if client.generate_secret else "", secret):
        raise _TokenError("invalid_client", "this user pool has no such client, or its secret is another")
    return client


def _refresh(request: Request, pool: CognitoIdpUserPool, client: Any) -> dict[str, Any]:
    token = request.form.get("refresh_token", "")
    owner = pool.refresh_tokens.get(token)
    if not owner or owner[0] != client.id:
        raise _TokenError("invalid_grant", "the refresh token is revoked, or none of this client's")
    access, identity, seconds = _issued(lambda: pool.create_tokens_from_refresh_token(token))
    return {"access_token": access, "id_token": identity, "token_type": "Bearer", "expires_in": seconds}


def _issued(issue: Callable[[], Value]) -> Value:
    try:
        return issue()
    except NotAuthorizedError:
        raise _TokenError("invalid_grant", "the user is gone or disabled") from None
    except JsonRESTError as error:
        # The trigger refused, or is not in order.
        raise _TokenError("invalid_request", str(error.message)) from None


# --- Pages ----------------------------------------------------------------------------------------


def _login_form(asked: Asked, request: Request, base: str, token: str) -> str:
    """A form for users of the pool itself, and links to the providers, as far as the client supports them."""
    query = request.query_string.decode()
    links = ""
    for name in oauth.providers(asked):
        if name != _NATIVE:
            address = f"{base}/oauth2/authorize?{query}&{urlencode({'identity_provider': name})}"
            links += f'<p><a href="{html.escape(address)}">{html.escape(name)}</a></p>'
    if _NATIVE not in oauth.providers(asked):
        return links
    return (
        f'<form method="post" action="{base}/login?{html.escape(query)}">'
        f'<input type="hidden" name="_csrf" value="{token}">'
        '<p><label>E-mail <input name="username" autocomplete="username"></label></p>'
        '<p><label>Password <input name="password" type="password" autocomplete="current-password"></label></p>'
        f'<p><button type="submit">Sign in</button></p></form>{links}'
    )


def _page(body: str, status: int = 200) -> Response:
    text = f'<!doctype html><html lang="en"><title>Sign in</title><body>{body}</body></html>'
    return Response(text, status, content_type="text/html; charset=utf-8", headers={"Cache-Control": "no-store"})


def _json(document: dict[str, Any], status: int = 200) -> Response:
    text = json.dumps(document)
    return Response(text, status, content_type="application/json", headers={"Cache-Control": "no-store"})
