"""The tenant's credentials, cached for as long as the caller's token and the credentials themselves last."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from saas_agent.errors import TOKEN_EXPIRED, Refused
from saas_agent.tenancy.access import TemporaryCredentials, TenantAccess, TenantSession
from saas_agent.tenancy.token import VerifiedToken

# Credentials that are about to expire are not handed to a request that has yet to run.
_MARGIN_SECONDS = 60.0


Exchange = Callable[[VerifiedToken], TemporaryCredentials]
"""A caller's token -> credentials of the caller's tenant; Refused where denied.

Hashable: equal ones lead to the same.
"""


class TenantCredentials:
    """Exchanges tokens for access, at most once a token, and remembers a bounded number of them.

    The key is the exchange with a digest of the token: two users, two tenants or two tokens never share an entry.
    """

    def __init__(self, region: str, *, capacity: int = 256, clock: Callable[[], float] = time.time) -> None:
        self._region = region
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[Exchange, bytes], tuple[float, TenantAccess]] = OrderedDict()

    def access(self, exchange: Exchange, caller: VerifiedToken) -> TenantAccess:
        """Access for the caller's tenant; Refused with token_expired once the token is past its time."""
        now = self._clock()
        if now >= caller.tenant.expires_at:
            raise Refused(TOKEN_EXPIRED)
        key = exchange, hashlib.sha256(f"{caller.raw}\n{caller.id_token}".encode()).digest()
        with self._lock:
            if (entry := self._entries.get(key)) and now < entry[0]:
                self._entries.move_to_end(key)
                return entry[1]
        credentials = exchange(caller)
        access = TenantAccess(caller.tenant, TenantSession(credentials, self._region), caller.raw, caller.id_token)
        good_until = min(credentials.expiration.timestamp() - _MARGIN_SECONDS, caller.tenant.expires_at)
        with self._lock:
            self._entries[key] = (good_until, access)
            self._entries.move_to_end(key)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        return access
