"""The way back for usage that could not be counted: from the dead-letter queue to the ledger's function."""

import json
from dataclasses import dataclass, field
from typing import Any

_MOST = 10  # messages that SQS gives at once
_SHOWN = 5


@dataclass
class Redriven:
    """How many events were counted, and how many failed again. reasons: what the first few said."""

    counted: int = 0
    failed: int = 0
    reasons: list[str] = field(default_factory=list)


def redrive(sqs: Any, queue_url: str, functions: Any, function: str) -> Redriven:
    """Has the function count every event of the queue; one leaves the queue only when it is counted.

    Stopped at any point and repeated, nothing is lost or counted twice: the ledger knows each record.

    Args:
        sqs, functions: boto3 clients of `sqs` and `lambda`.
    """
    done = Redriven()
    seen: set[str] = set()
    while messages := sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=_MOST).get("Messages", []):
        fresh = [message for message in messages if message["MessageId"] not in seen]
        for message in fresh:
            seen.add(message["MessageId"])
            answer = functions.invoke(FunctionName=function, Payload=message["Body"].encode())
            if "FunctionError" not in answer:
                sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
                done.counted += 1
                continue
            done.failed += 1
            if len(done.reasons) < _SHOWN:
                done.reasons.append(_reason(answer["Payload"].read()))
        if not fresh:
            break
    return done


def _reason(payload: bytes) -> str:
    try:
        return " ".join(str(json.loads(payload)["errorMessage"]).split())
    except (ValueError, KeyError, TypeError):
        return "the function gave no reason"
