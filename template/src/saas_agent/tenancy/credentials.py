"""The tenant's credentials, cached for as long as the caller's token and the credentials themselves last."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from saas_agent.errors import TOKEN_EXPIRED, Refused
from saas_agent.tenancy.access import TemporaryCredentials, TenantAccess, TenantSession
from saas_agent.tenancy.token import VerifiedToken

Exchange = Callable[[VerifiedToken], TemporaryCredentials]
"""The caller's token -> credentials of the caller's tenant. Raises Refused where the exchange is denied."""

# Credentials that are about to expire are not handed to a request that has yet to run.
_MARGIN_SECONDS = 60.0


class TenantCredentials:
    """Exchanges tokens for access, at most once a token, and remembers a bounded number of them.

    The key is a digest of the token itself: two users, two tenants or two tokens never share an entry.
    """

    def __init__(
        self,
        exchange: Exchange,
        region: str,
        *,
        capacity: int = 256,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._exchange = exchange
        self._region = region
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, tuple[float, TenantAccess]] = OrderedDict()

    def access(self, token: VerifiedToken) -> TenantAccess:
        """Access for the token's tenant; Refused with token_expired once the token is past its time."""
        now = self._clock()
        if now >= token.tenant.expires_at:
            raise Refused(TOKEN_EXPIRED)
        key = hashlib.sha256(token.raw.encode()).digest()
        with self._lock:
            if (entry := self._entries.get(key)) and now < entry[0]:
                self._entries.move_to_end(key)
                return entry[1]
        credentials = self._exchange(token)
        access = TenantAccess(token.tenant, TenantSession(credentials, self._region))
        good_until = min(credentials.expiration.timestamp() - _MARGIN_SECONDS, token.tenant.expires_at)
        with self._lock:
            self._entries[key] = (good_until, access)
            self._entries.move_to_end(key)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        return access
