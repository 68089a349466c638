"""Signing in at a user pool's domain, as a browser and an application do it: authorize, log in, redeem the code.

The pages are Cognito's classic ones, whose form has the fields `username`, `password` and `_csrf`;
against AWS this is not proved (the live check says so), and another page fails with one line.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import jwt
from botocore.exceptions import EndpointConnectionError, HTTPClientError

from saas_agent.errors import INVALID_TOKEN, Refused

_TIMEOUT_SECONDS = 30.0
_MOST_STEPS = 12


def at_loopback(url: str, region: str, loopback: str) -> str:
    """The address of the local cloud for one of a domain or of an issuer on AWS; any other as it is.

    Args:
        loopback: the local cloud's own address, without a slash at the end.
    """
    issuer, domain = f"https://cognito-idp.{region}.amazonaws.com/", f".auth.{region}.amazoncognito.com"
    if url.startswith(issuer):
        return f"{loopback}/{url.removeprefix(issuer)}"
    host, slash, path = url.removeprefix("https://").partition("/")
    if url.startswith("https://") and host.endswith(domain):
        return f"{loopback}/_domains/{host.removesuffix(domain)}{slash}{path}"
    return url


class SignInRefused(Refused):
    """No tokens. `detail`: what the pages or the token endpoint said."""

    def __init__(self, detail: str) -> None:
        super().__init__(INVALID_TOKEN, detail)

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True)
class Grant:
    """A code that is not redeemed yet, and what has to go with it."""

    code: str = field(repr=False)
    verifier: str = field(repr=False)
    nonce: str = field(repr=False)


class ManagedLogin:
    """An application's client at a domain.

    address: the domain's, `https://<prefix>.auth.<region>.amazoncognito.com` or where it is served
    locally. redirect_uri: one of the client's; nobody listens there, the code is read on the way.
    """

    def __init__(self, address: str, client_id: str, redirect_uri: str) -> None:
        self.address = address
        self._client_id = client_id
        self._redirect_uri = redirect_uri

    def sign_in(self, provider: str, username: str, password: str) -> dict[str, Any]:
        """The token endpoint's answer for a user of this identity provider; SignInRefused otherwise."""
        return self.redeem(self.grant(provider, username, password))

    def grant(self, provider: str, username: str, password: str) -> Grant:
        """What the browser brings back after the user has logged in."""
        verifier, state, nonce = (secrets.token_urlsafe(48) for _ in range(3))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": self._redirect_uri,
            "scope": "openid email",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "identity_provider": provider,
        }
        browser = _Browser(self._redirect_uri)
        back = browser.open(f"{self.address}/oauth2/authorize?{urlencode(asked)}")
        if back is None:
            back = browser.log_in(username, password)
        answer = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}
        if "error" in answer:
            raise SignInRefused(f"{answer['error']}: {answer.get('error_description', '')}")
        if not hmac.compare_digest(answer.get("state", ""), state) or "code" not in answer:
            raise SignInRefused("the answer is not to this sign-in")
        return Grant(answer["code"], verifier, nonce)

    def redeem(self, grant: Grant, **changed: str | None) -> dict[str, Any]:
        """The tokens for the code. `changed`: fields of the request that are sent otherwise, or with None left out."""
        tokens = self._token(
            {
                "grant_type": "authorization_code",
                "client_id": self._client_id,
                "redirect_uri": self._redirect_uri,
                "code": grant.code,
                "code_verifier": grant.verifier,
                **changed,
            }
        )
        # The token comes straight from the endpoint; the nonce says that it is of this sign-in.
        claims = jwt.decode(tokens["id_token"], options={"verify_signature": False})
        if claims.get("nonce") != grant.nonce:
            raise SignInRefused("the ID token is not of this sign-in")
        return tokens

    def refresh(self, refresh_token: str) -> dict[str, Any]:
        """New tokens for a refresh token."""
        form = {"grant_type": "refresh_token", "client_id": self._client_id, "refresh_token": refresh_token}
        return self._token(form)

    def come_back(self, **parameters: str) -> str:
        """Opens the hub's own callback, as if a provider had sent the browser there; where that leads."""
        back = _Browser(self._redirect_uri).open(f"{self.address}/oauth2/idpresponse?{urlencode(parameters)}")
        if back is None:
            raise SignInRefused("the browser was not sent on")
        return back

    def _token(self, form: Mapping[str, str | None]) -> dict[str, Any]:
        body = urlencode({name: value for name, value in form.items() if value is not None}).encode()
        status, _, text = _Http().send(f"{self.address}/oauth2/token", body)
        try:
            document: dict[str, Any] = json.loads(text)
        except ValueError:
            raise SignInRefused(f"the token endpoint answered {status}") from None
        if status != 200:
            raise SignInRefused(f"{document.get('error')}: {document.get('error_description', '')}")
        return document


class _Http:
    """Requests with cookies; redirects are left to whoever asks, and proxies can't reach a loopback address."""

    def __init__(self) -> None:
        handlers = [urllib.request.HTTPCookieProcessor(CookieJar()), NoRedirect()]
        self._opener = urllib.request.build_opener(*handlers)

    def send(self, url: str, body: bytes | None = None) -> tuple[int, Mapping[str, str], str]:
        """Status, headers and text of the answer; botocore's EndpointConnectionError where there is none."""
        try:
            with self._opener.open(url, body, _TIMEOUT_SECONDS) as answer:
                return answer.status, dict(answer.headers), answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read().decode(errors="replace")
        except OSError as error:
            raise EndpointConnectionError(endpoint_url=url, error=error) from None


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to whoever asks."""

    def redirect_request(self, *_: Any, **__: Any) -> urllib.request.Request | None:
        """No request, so that the redirect itself is the answer."""
        return None


class _Browser:
    """Goes from page to page until it is sent to the application's own address."""

    def __init__(self, until: str) -> None:
        self._http = _Http()
        self._until = until
        self._page: tuple[str, str] = ("", "")

    def open(self, url: str, body: bytes | None = None) -> str | None:
        """The address of the application that the browser was sent to; None where it met a page."""
        for _ in range(_MOST_STEPS):
            status, headers, text = self._http.send(url, body)
            location = headers.get("Location")
            if status not in (301, 302, 303, 307, 308) or location is None:
                self._page = (url, text)
                if status >= 500:
                    raise HTTPClientError(error=f"the page answered {status}")
                if status >= 400:
                    raise SignInRefused(f"the page answered {status}: {_words(text)}")
                return None
            url, body = urljoin(url, location), None
            if url.startswith(self._until):
                return url
        raise SignInRefused("the pages send the browser in a circle")

    def log_in(self, username: str, password: str) -> str:
        """Fills in the page's form; the address of the application that the browser was sent to."""
        url, text = self._page
        form = _Form(text)
        if form.fields is None:
            raise SignInRefused(f"the page has no form to log in: {_words(text)}")
        filled = {**form.fields, "username": username, "password": password}
        back = self.open(urljoin(url, form.action), urlencode(filled).encode())
        if back is None:
            raise SignInRefused(f"the page came back: {_words(self._page[1])}")
        return back


class _Form(HTMLParser):
    """The first form of a page that asks for a password: where it goes, and its hidden fields."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] | None = None
        self._current: tuple[str, dict[str, str]] = ("", {})
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects forms and their inputs."""
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._current = (values.get("action", ""), {})
        elif tag == "input" and values.get("type") == "hidden":
            self._current[1][values.get("name", "")] = values.get("value", "")
        elif tag == "input" and values.get("type") == "password" and self.fields is None:
            self.action, self.fields = self._current


def _words(text: str) -> str:
    """A page's first words, without its tags."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())[:200]
