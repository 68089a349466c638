"""S3 Vectors, with a small deterministic embedding in place of a model's and an exact search.

moto keeps the vector buckets, their indexes and the vectors; CloudFormation and searching are here.
A text's vector counts its words, each with the beginning of it, so that texts are near each other as
far as they say the same with the same words. Meaning is what only a model's vectors have.

Source: Amazon S3 User Guide, "Metadata filtering" and "Limitations and restrictions" of S3 Vectors.
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moto.s3vectors.models import Index as MotoIndex
from moto.s3vectors.models import Vector, s3vectors_backends

from ..operations import ServiceError
from ..resources.kind import Kind, Place, Properties, Resource, UnsupportedChange

_FILTERABLE_BYTES = 2048
# Words that are in every text tell none apart.
_WORD = re.compile(
    r"\b(?!(?:a|an|and|any|are|as|at|be|but|by|can|do|for|from|has|have|how|i|if|in|is|it|me|my|of|on|or|our|say|says"
    r"|that|the|their|they|this|to|us|was|we|what|when|where|which|who|why|will|with|you|your)\b)\w+"
)
_STEM, _STEM_WEIGHT = 5, 0.3  # letters that "printer" and "printing" have in common


def embed(text: str, dimension: int) -> list[float]:
    """The text as a vector of length 1; all zeros for one without a word."""
    vector = [0.0] * dimension
    for feature, weight in _features(text).items():
        digest = hashlib.blake2b(feature.encode(), digest_size=8).digest()
        position = int.from_bytes(digest[:4], "big") % dimension
        vector[position] += weight if digest[4] & 1 else -weight
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length else vector


def _features(text: str) -> Mapping[str, float]:
    words = _WORD.findall(text.casefold())
    # A word that stands ten times makes a text no ten times nearer, and its beginning says less than the word.
    counts = {word: 1 + math.log(count) for word, count in Counter(words).items()}
    stems = {f"{word[:_STEM]}*" for word in words if len(word) > _STEM}
    return {**counts, **dict.fromkeys(stems, _STEM_WEIGHT)}


@dataclass(frozen=True)
class Match:
    """A vector that was found. score: the cosine, 1 for the same direction."""

    key: str
    metadata: Mapping[str, Any]
    score: float


class StoredIndex(MotoIndex):
    """moto's index, with what moto has no place for."""

    non_filterable_keys: frozenset[str] = frozenset()


class VectorIndex:
    """An index that CloudFormation made, by its ARN."""

    def __init__(self, account: str, arn: str) -> None:
        """ServiceError where there is no such index."""
        buckets = s3vectors_backends[account]["aws"].vector_buckets.values()
        index = next((bucket.indexes[arn] for bucket in buckets if arn in bucket.indexes), None)
        if not isinstance(index, StoredIndex):
            raise ServiceError("NotFoundException", "The specified index could not be found", 404)
        self._index = index

    @property
    def dimension(self) -> int:
        """How many numbers its vectors have."""
        return int(self._index.dimension)

    def put(self, key: str, text: str, metadata: Mapping[str, Any]) -> None:
        """Puts the text's vector, over one of the same key; ServiceError for more metadata than S3 Vectors takes."""
        hidden = self._index.non_filterable_keys
        filterable = {name: value for name, value in metadata.items() if name not in hidden}
        if len(json.dumps(filterable, separators=(",", ":")).encode()) > _FILTERABLE_BYTES:
            raise ServiceError(
                "ValidationException",
                f"Invalid record for key '{key}': Filterable metadata must have at most {_FILTERABLE_BYTES} bytes",
            )
        self._index.vectors[key] = Vector(key, {"float32": embed(text, self.dimension)}, dict(metadata))

    def delete(self, keys: list[str]) -> None:
        """Deletes these vectors, as far as they are there."""
        for key in keys:
            self._index.vectors.pop(key, None)

    def matching(self, keep: Callable[[Mapping[str, Any]], bool]) -> list[tuple[str, Mapping[str, Any], list[float]]]:
        """Key, metadata and numbers of every vector whose metadata `keep` lets through."""
        vectors = list(self._index.vectors.values())
        return [(v.key, v.metadata, v.data["float32"]) for v in vectors if keep(self._filterable(v.metadata))]

    def nearest(self, text: str, among: list[tuple[str, Mapping[str, Any], list[float]]], limit: int) -> list[Match]:
        """Those of the vectors that are nearest to the text's, nearest first."""
        wanted = [(position, value) for position, value in enumerate(embed(text, self.dimension)) if value]
        found = [
            Match(key, metadata, sum(value * numbers[position] for position, value in wanted))
            for key, metadata, numbers in among
        ]
        return sorted(found, key=lambda match: (-match.score, match.key))[:limit]

    def _filterable(self, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: value for name, value in metadata.items() if name not in self._index.non_filterable_keys}


# --- CloudFormation -------------------------------------------------------------------------------


def _tag(place: Place, arn: str, properties: Properties) -> None:
    """Give the resource the tags of the template, and no others."""
    backend = s3vectors_backends[place.account]["aws"]
    backend.tagger.delete_all_tags_for_resource(arn)
    backend.tagger.tag_resource(arn, list(properties.get("Tags", [])))


class VectorBucket(Kind):
    """AWS::S3Vectors::VectorBucket."""

    replaced_by = frozenset({"VectorBucketName", "EncryptionConfiguration"})
    tags = ("Tags", list)

    def create(self, place: Place, properties: Properties) -> Resource:
        backend = s3vectors_backends[place.account]["aws"]
        name = properties.get("VectorBucketName") or place.name(63).lower()
        if any(bucket.vector_bucket_name == name for bucket in backend.vector_buckets.values()):
            raise UnsupportedChange(f"AWS::S3Vectors::VectorBucket: a vector bucket named {name} already exists")
        backend.create_vector_bucket(place.region, name, properties.get("EncryptionConfiguration", {}))
        arn = backend.get_vector_bucket(vector_bucket_name=name).vector_bucket_arn
        _tag(place, arn, properties)
        return Resource(arn, {"VectorBucketArn": arn})

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        _tag(place, resource.physical_id, properties)
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        backend = s3vectors_backends[place.account]["aws"]
        bucket = backend.get_vector_bucket(vector_bucket_arn=resource.physical_id)
        if bucket.indexes:
            raise UnsupportedChange(
                f"AWS::S3Vectors::VectorBucket: {bucket.vector_bucket_name} is not empty: delete its indexes first"
            )
        backend.delete_vector_bucket(bucket.vector_bucket_name)


class Index(Kind):
    """AWS::S3Vectors::Index. Nothing of it can be changed but its tags."""

    replaced_by = frozenset(
        {
            *("DataType", "Dimension", "DistanceMetric", "EncryptionConfiguration"),
            *("IndexName", "MetadataConfiguration", "VectorBucketArn", "VectorBucketName"),
        }
    )
    tags = ("Tags", list)

    def create(self, place: Place, properties: Properties) -> Resource:
        if properties["DistanceMetric"] != "cosine":
            raise UnsupportedChange("AWS::S3Vectors::Index: the local cloud measures the distance by cosine only")
        backend = s3vectors_backends[place.account]["aws"]
        bucket = backend.get_vector_bucket(properties.get("VectorBucketName"), properties.get("VectorBucketArn"))
        name = properties.get("IndexName") or place.name(63).lower()
        if any(index.index_name == name for index in bucket.indexes.values()):
            raise UnsupportedChange(f"AWS::S3Vectors::Index: an index named {name} already exists")
        index = StoredIndex(bucket, name, int(properties["Dimension"]), properties["DataType"], "cosine")
        metadata = properties.get("MetadataConfiguration", {})
        index.non_filterable_keys = frozenset(metadata.get("NonFilterableMetadataKeys", []))
        bucket.indexes[index.index_arn] = index
        _tag(place, index.index_arn, properties)
        return Resource(index.index_arn, {"IndexArn": index.index_arn})

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        _tag(place, resource.physical_id, properties)
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        s3vectors_backends[place.account]["aws"].delete_index("", "", resource.physical_id)


KINDS: Mapping[str, Kind] = {"AWS::S3Vectors::VectorBucket": VectorBucket(), "AWS::S3Vectors::Index": Index()}
