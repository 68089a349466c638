"""Subscriptions, asynchronous invocations and transactions of the local cloud."""

import base64
import gzip
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from . import stand_in_function
from .local_stacks import Operator, function, operator, role, values

GROUP = "/aws/bedrock-agentcore/runtimes/desk-DEFAULT"


@pytest.fixture(scope="module")
def running() -> Iterator[Operator]:
    with operator() as found:
        found.upload("code", "code.zip")
        found.create("stack", resources("good"), Outputs=values(Url={"Ref": "Dead"}, Function={"Ref": "Function"}))
        found.logs.create_log_group(logGroupName=GROUP)
        found.logs.create_log_stream(logGroupName=GROUP, logStreamName="s")
        yield found


def resources(answer: str) -> dict[str, Any]:
    dead = {"Fn::GetAtt": ["Dead", "Arn"]}
    may_send = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": dead}
    return {
        "Dead": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "dead"}},
        "FunctionRole": role(
            "lambda.amazonaws.com",
            Policies=[{"PolicyName": "dead", "PolicyDocument": {"Version": "2012-10-17", "Statement": [may_send]}}],
        ),
        "Function": function("code", answer, FunctionName="taker", DeadLetterConfig={"TargetArn": dead}),
        "Permission": {
            "Type": "AWS::Lambda::Permission",
            "Properties": {
                "FunctionName": {"Ref": "Function"},
                "Action": "lambda:InvokeFunction",
                "Principal": "logs.amazonaws.com",
                "SourceArn": "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/bedrock-agentcore/runtimes/*:*",
            },
        },
    }


def subscribe(running: Operator, pattern: str = "wanted", group: str = GROUP) -> None:
    arn = running.functions.get_function_configuration(FunctionName="taker")["FunctionArn"]
    running.logs.put_subscription_filter(
        logGroupName=group, filterName="usage", filterPattern=pattern, destinationArn=arn
    )


def write(running: Operator, *messages: str) -> list[dict[str, Any]]:
    """What reached the function of these lines."""
    stand_in_function.received.clear()
    events = [{"timestamp": running.now(), "message": message} for message in messages]
    running.logs.put_log_events(logGroupName=GROUP, logStreamName="s", logEvents=events)
    return [
        json.loads(gzip.decompress(base64.b64decode(event["awslogs"]["data"]))) for event in stand_in_function.received
    ]


def test_a_function_gets_the_lines_that_fit_in_one_batch(running: Operator) -> None:
    subscribe(running)
    (batch,) = write(running, "wanted 1", "other", '{"a": "wanted 2"')
    assert [event["message"] for event in batch["logEvents"]] == ["wanted 1", '{"a": "wanted 2"']
    assert (batch["messageType"], batch["logGroup"], batch["subscriptionFilters"]) == ("DATA_MESSAGE", GROUP, ["usage"])
    assert len({event["id"] for event in batch["logEvents"]}) == 2
    assert write(running, "other") == []


def test_who_may_not_invoke_the_function_may_not_subscribe_it(running: Operator) -> None:
    running.logs.create_log_group(logGroupName="/elsewhere")
    with pytest.raises(ClientError, match="Could not execute the lambda function"):
        subscribe(running, group="/elsewhere")


def test_a_pattern_that_is_not_understood_is_refused(running: Operator) -> None:
    with pytest.raises(ClientError, match="no patterns on JSON fields"):
        subscribe(running, "{ $.record = 1 }")


def test_what_fails_three_times_is_kept(running: Operator) -> None:
    subscribe(running)
    running.update("stack", resources("raise"), Outputs=values(Url={"Ref": "Dead"}))
    assert len(write(running, "wanted and kept")) == 3
    url = running.outputs("stack")["Url"]
    (message,) = running.queues.receive_message(QueueUrl=url, MessageAttributeNames=["All"])["Messages"]
    assert json.loads(message["Body"]) == stand_in_function.received[0]
    assert message["MessageAttributes"]["ErrorMessage"]["StringValue"] == "not today"
    running.queues.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def test_without_the_permission_to_send_what_fails_is_lost(running: Operator) -> None:
    subscribe(running)
    stack = resources("raise")
    del stack["FunctionRole"]["Properties"]["Policies"]
    running.update("stack", stack, Outputs=values(Url={"Ref": "Dead"}))
    write(running, "wanted and lost")
    assert "Messages" not in running.queues.receive_message(QueueUrl=running.outputs("stack")["Url"])


# --- DynamoDB ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(running: Operator) -> Any:
    running.dynamodb.create_table(
        TableName="sums",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
    )
    return running.dynamodb


def key(name: str) -> dict[str, Any]:
    return {"pk": {"S": name}, "sk": {"S": "x"}}


def mark(name: str) -> dict[str, Any]:
    return {
        "Put": {
            "TableName": "sums",
            "Item": key(name),
            "ConditionExpression": "attribute_not_exists(pk)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }


def add(name: str, amount: str = "1") -> dict[str, Any]:
    return {
        "Update": {
            "TableName": "sums",
            "Key": key(name),
            "UpdateExpression": "ADD counted :amount",
            "ExpressionAttributeValues": {":amount": {"N": amount}},
        }
    }


def total(table: Any, name: str) -> str | None:
    item = table.get_item(TableName="sums", Key=key(name), ConsistentRead=True).get("Item", {})
    return str(item["counted"]["N"]) if item else None


def test_a_transaction_is_written_as_a_whole_or_not_at_all(table: Any) -> None:
    table.transact_write_items(TransactItems=[mark("one"), add("sum")])
    with pytest.raises(ClientError) as refused:
        table.transact_write_items(TransactItems=[mark("two"), mark("one"), add("sum"), add("new")])
    codes = [reason["Code"] for reason in refused.value.response["CancellationReasons"]]
    assert codes == ["None", "ConditionalCheckFailed", "None", "None"]
    assert refused.value.response["CancellationReasons"][1]["Item"] == key("one")
    assert (total(table, "sum"), total(table, "new")) == ("1", None)
    assert "Item" not in table.get_item(TableName="sums", Key=key("two"))


def test_a_transaction_that_breaks_off_while_it_writes_leaves_nothing(table: Any) -> None:
    table.put_item(TableName="sums", Item={**key("text"), "counted": {"S": "no number"}})
    table.put_item(TableName="sums", Item={**key("before"), "counted": {"N": "5"}})
    with pytest.raises(ClientError):
        table.transact_write_items(TransactItems=[mark("fresh"), add("before"), add("text")])
    assert total(table, "before") == "5"
    assert "Item" not in table.get_item(TableName="sums", Key=key("fresh"))


def test_two_actions_on_one_item_and_more_than_a_hundred_are_refused(table: Any) -> None:
    with pytest.raises(ClientError, match="multiple operations on one item"):
        table.transact_write_items(TransactItems=[add("sum"), add("sum")])
    with pytest.raises(ClientError, match="less than or equal to 100"):
        table.transact_write_items(TransactItems=[add(f"n{number}") for number in range(101)])


def test_conditional_writes_at_the_same_time_check_and_change_in_one_step(table: Any) -> None:
    taken: list[bool] = []

    def take() -> None:
        try:
            table.update_item(
                TableName="sums",
                Key=key("places"),
                UpdateExpression="ADD counted :one",
                ConditionExpression="attribute_not_exists(counted) OR counted < :limit",
                ExpressionAttributeValues={":one": {"N": "1"}, ":limit": {"N": "5"}},
            )
            taken.append(True)
        except ClientError:
            taken.append(False)

    threads = [threading.Thread(target=take) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (taken.count(True), total(table, "places")) == (5, "5")
