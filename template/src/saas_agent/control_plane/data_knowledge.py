"""A tenant's part of the knowledge base that tenants share, for the workflow.

No call that this takes has a condition key (Service Authorization Reference, Amazon Bedrock). They are made in a role
of their own that may do nothing else, and through `KnowledgeBase`, which names documents below the tenant's prefix
alone and drops at once what a list names of others'. The documents themselves are in a bucket, see `data_files.py`.
"""

import time

from saas_agent.control_plane.data import Exported, Folder, Page, Store
from saas_agent.control_plane.steps import Throttled
from saas_agent.storage.knowledge import NOT_FOUND, ForeignPassage, KnowledgeBase

_PAGE = 1000
_WAIT_SECONDS = 120.0  # for Bedrock, which removes what it was told to a little later
_PAUSE_SECONDS = 2.0


class IndexedDocuments(Store):
    """What the knowledge base has indexed of the tenant. Nothing to export: the documents are in the bucket."""

    name = "indexed documents"

    def __init__(self, base: KnowledgeBase) -> None:
        """`base`: the tenant's part, reached with the credentials of the role for it."""
        self._base = base

    def page(self, start: str) -> Page:
        """`start`: the name after which it begins. A token of Bedrock's is no good for a list that is deleted from."""
        names = sorted(name for name in self._base.all() if name > start)
        return Page(names[:_PAGE], names[_PAGE - 1] if len(names) > _PAGE else "")

    def export(self, page: Page, number: int, folder: Folder) -> list[Exported]:
        return []

    def delete(self, page: Page) -> None:
        self._base.remove(page.items)
        deadline = time.monotonic() + _WAIT_SECONDS
        while self.left(page):
            if time.monotonic() > deadline:
                raise Throttled("Bedrock is still removing documents")
            time.sleep(_PAUSE_SECONDS)

    def left(self, page: Page) -> int:
        return sum(state.status != NOT_FOUND for state in self._base.states(page.items).values())


class Passages(Store):
    """What a search that is held to the tenant finds: the vectors, whatever the list of documents says.

    They go with their documents, so there is nothing to delete; what is still found belongs to no document.
    """

    name = "passages"

    def __init__(self, base: KnowledgeBase) -> None:
        """`base`: as of `IndexedDocuments`."""
        self._base = base

    def page(self, start: str) -> Page:
        return Page([], "")

    def export(self, page: Page, number: int, folder: Folder) -> list[Exported]:
        return []

    def delete(self, page: Page) -> None:
        """Nothing: see above."""

    def left(self, page: Page) -> int:
        # Any question will do: however far from it, the nearest passage of the tenant is found.
        try:
            return len(self._base.search("anything", limit=1))
        except ForeignPassage:
            return 1  # the tenant's by its metadata, and somebody else's by its place
