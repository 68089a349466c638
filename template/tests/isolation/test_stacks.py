"""What the deployed templates hold beside the tenants' policies: who else may do what, who reaches a resource from
outside of IAM, and the settings that everything rests on.

The matrix and the trust layer judge verdicts of the roles; these here are pinned literally, because nothing local
evaluates them: resource policies, the roles around, and what Cognito, AgentCore and S3 do with their settings.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import pytest

from local import template as formation
from local.iam import as_list
from local.stage import Stage
from saas_agent.tenancy.placement import load_placement

from .allow_list import ALLOWED, EXECUTION, GATEWAY, KNOWLEDGE_SERVICE

Template = Mapping[str, Any]

TENANT_ROLE = "TenantRole"
_RUNTIME_POLICY = "AWS::BedrockAgentCore::ResourcePolicy"

_PLACEMENT = load_placement()
_HUB = _PLACEMENT.own_user_pools and any(_PLACEMENT.serves(tier, None) for tier in _PLACEMENT.tiers)

_LOG_STREAMS = "log-group:/aws/bedrock-agentcore/runtimes/"
_AGENTCORE_TRUST = (
    "trusts bedrock-agentcore.amazonaws.com: sts:AssumeRole "
    "if ArnLike aws:SourceArn arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:* "
    "if StringEquals aws:SourceAccount AWS::AccountId"
)
_RUNTIME = frozenset(
    {
        _AGENTCORE_TRUST,
        "Allow logs:DescribeLogGroups on arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:*",
        "Allow xray:PutTelemetryRecords xray:PutTraceSegments on *",
        "Allow cloudwatch:PutMetricData on * if StringEquals cloudwatch:namespace bedrock-agentcore",
        "Deny bedrock-agentcore:GetWorkloadAccessTokenForUserId on *",
    }
)


def _runtime_log(name: str) -> str:
    return (
        "Allow logs:CreateLogGroup logs:CreateLogStream logs:DescribeLogStreams logs:PutLogEvents on "
        f"arn:${{AWS::Partition}}:logs:${{AWS::Region}}:${{AWS::AccountId}}:{_LOG_STREAMS}{name}-*"
    )


_ANY_POOL = "arn:${AWS::Partition}:cognito-idp:${AWS::Region}:${AWS::AccountId}:userpool/*"
_OF_THIS_STAGE = " if StringEquals aws:ResourceTag/service Service if StringEquals aws:ResourceTag/stage Stage"
_MANAGING_USERS = (
    "cognito-idp:AdminAddUserToGroup cognito-idp:AdminCreateUser cognito-idp:AdminDeleteUser "
    "cognito-idp:AdminGetUser cognito-idp:AdminListGroupsForUser cognito-idp:ListUsers"
)


_TENANT_TEMPLATES = (
    ("templates/tenant.yaml",),
    ("templates/tenant_pooled.yaml",),
    ("templates/tenant.yaml", "templates/tenant_pooled.yaml"),
)
# Where tenants have pools of their own: pools that CloudFormation never makes a tenant's by tagging them.
_OTHERS_POOLS = frozenset(
    f"Deny cognito-idp:TagResource on {_ANY_POOL} if Null aws:ResourceTag/{tag} false "
    f"if StringNotEquals aws:ResourceTag/{tag} {tag.capitalize()}"
    for tag in ("service", "stage")
    if _PLACEMENT.own_user_pools
) | frozenset({"Deny cognito-idp:TagResource on UserPool.Arn"} if _HUB else ())
_KEEPING_POOLS = (
    "cognito-idp:AddCustomAttributes cognito-idp:CreateGroup cognito-idp:CreateUserPoolClient "
    "cognito-idp:DeleteGroup cognito-idp:DeleteUserPool cognito-idp:DeleteUserPoolClient "
    "cognito-idp:DescribeUserPool cognito-idp:DescribeUserPoolClient cognito-idp:GetGroup "
    "cognito-idp:GetUserPoolMfaConfig cognito-idp:ListTagsForResource cognito-idp:SetUserPoolMfaConfig "
    "cognito-idp:TagResource cognito-idp:UntagResource cognito-idp:UpdateGroup cognito-idp:UpdateUserPool "
    "cognito-idp:UpdateUserPoolClient"
)
# Of pools that a hub federates.
_KEEPING_POOLS_AND_DOMAINS = " ".join(
    sorted(_KEEPING_POOLS.split() + [f"cognito-idp:{verb}UserPoolDomain" for verb in ("Create", "Delete", "Update")])
)
_KEEP_BUCKETS = (
    "Allow s3:CreateBucket s3:DeleteBucket s3:DeleteBucketPolicy s3:GetBucketOwnershipControls "
    "s3:GetBucketPolicy s3:GetBucketPublicAccessBlock s3:GetBucketTagging s3:GetBucketVersioning "
    "s3:GetEncryptionConfiguration s3:GetLifecycleConfiguration s3:ListBucket "
    "s3:PutBucketOwnershipControls s3:PutBucketPolicy s3:PutBucketPublicAccessBlock "
    "s3:PutBucketTagging s3:PutBucketVersioning s3:PutEncryptionConfiguration "
    "s3:PutLifecycleConfiguration on "
)
_OWN_BUCKETS = "arn:${AWS::Partition}:s3:::4(-(2(/(AWS::StackId))))-*"
_OWN_DOCUMENTS = "arn:${AWS::Partition}:s3:::docs4(-(2(/(AWS::StackId))))-*"

_OWN_ITEMS = (
    " if ForAllValues:StringEquals dynamodb:LeadingKeys TENANT#${aws:PrincipalTag/TenantId}"
    " if Null aws:PrincipalTag/TenantId false if Null dynamodb:LeadingKeys false"
)
_SECRET = (
    "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret: Service / Stage "
    "/tenants/${aws:PrincipalTag/TenantId}/issue_tracker"
)

_VAULT = "arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:token-vault/default"
_DIRECTORY = (
    "arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:workload-identity-directory/default"
)

GRANTS: Mapping[str, frozenset[str]] = {
    "ExecutionRole": _RUNTIME
    | {_runtime_log("_(-(${Service}-${Stage}))"), "Allow lambda:InvokeFunction on CredentialsFunction.Arn"},
    # Where its runtime is the tenant's own. What it may do as the tenant is for the allow-list and the matrix.
    TENANT_ROLE: _RUNTIME
    | {
        _runtime_log("_(t _(-(TenantId)) 0(-(2(/(AWS::StackId)))))"),
        # And where the functions behind its gateway are.
        "Allow logs:CreateLogStream logs:PutLogEvents on GatewayInterceptorLogs.Arn GatewayToolsLogs.Arn",
    },
    "GatewayRole": frozenset(
        {
            "Allow lambda:InvokeFunction on GatewayInterceptorFunction.Arn GatewayToolsFunction.Arn",
            "Allow bedrock-agentcore:GetPolicyEngine on PolicyEngine.PolicyEngineArn",
            "Allow bedrock-agentcore:AuthorizeAction bedrock-agentcore:PartiallyAuthorizeActions on "
            "PolicyEngine.PolicyEngineArn "
            "arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:gateway/*",
            "trusts bedrock-agentcore.amazonaws.com: sts:AssumeRole "
            "if ArnLike aws:SourceArn "
            "arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:gateway/* "
            "if StringEquals aws:SourceAccount AWS::AccountId",
        }
    ),
    "GatewayInterceptorRole": frozenset({"Allow lambda:InvokeFunction on CredentialsFunction.Arn"}),
    "GatewayToolsRole": frozenset({"Allow lambda:InvokeFunction on CredentialsFunction.Arn"}),
    "CredentialsRole": frozenset(
        {
            "Allow sts:AssumeRole sts:TagSession on TenantRole.Arn",
            "Allow sts:AssumeRole sts:TagSession on TenantRole.Arn "
            "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Service}/${Stage}/tenants/*",
        }
    ),
    "PreTokenRole": frozenset(
        {
            "Allow dynamodb:GetItem on RegistryTable.Arn",
            # Of a hub: the user in the pool of the tenant.
            "Allow cognito-idp:AdminGetUser cognito-idp:AdminListGroupsForUser on "
            f"{_ANY_POOL} if Null aws:ResourceTag/TenantId false{_OF_THIS_STAGE}",
            # Of a tenant's own pool: the one tenant.
            "Allow dynamodb:GetItem on RegistryTableArn if ForAllValues:StringEquals dynamodb:LeadingKeys "
            "TENANT#${TenantId} if Null dynamodb:LeadingKeys false",
        }
    ),
    "UsersRole": frozenset(
        {
            "Allow dynamodb:GetItem on RegistryTable.Arn",
            f"Allow {_MANAGING_USERS} on UserPool.Arn",
            # Where tenants have pools of their own: nothing by itself, but to forget what a hub knows.
            "Allow sts:AssumeRole sts:TagSession on UserKeepingRole.Arn",
            "Allow cognito-idp:AdminDeleteUser on UserPool.Arn",
        }
    ),
    "UserKeepingRole": frozenset(
        {
            "trusts UsersRole.Arn TenantUsersRole.Arn: sts:AssumeRole sts:TagSession "
            "if ForAllValues:StringEquals aws:TagKeys TenantId if StringLike aws:RequestTag/TenantId ?*",
            "Allow cognito-idp:AdminAddUserToGroup cognito-idp:AdminCreateUser cognito-idp:AdminDeleteUser "
            "cognito-idp:AdminGetUser cognito-idp:AdminListGroupsForUser cognito-idp:AdminUserGlobalSignOut "
            f"cognito-idp:ListUsers on {_ANY_POOL} if Null aws:PrincipalTag/TenantId false "
            f"if StringEquals aws:ResourceTag/TenantId ${{aws:PrincipalTag/TenantId}}{_OF_THIS_STAGE}",
        }
    ),
    "LedgerRole": frozenset(
        {
            "Allow dynamodb:BatchGetItem dynamodb:GetItem dynamodb:PutItem dynamodb:UpdateItem on LedgerTable.Arn",
            "Allow events:PutEvents on arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/default",
            "Allow sqs:SendMessage on LedgerDeadLetters.Arn",
            "Allow firehose:PutRecordBatch on UsageStream.Arn",
        }
    ),
    # It writes what all tenants used, and reads none of it.
    "UsageStreamRole": frozenset(
        {
            "Allow glue:GetTable glue:GetTableVersion glue:GetTableVersions on "
            "arn:${AWS::Partition}:glue:${AWS::Region}:${AWS::AccountId}:catalog "
            "arn:${AWS::Partition}:glue:${AWS::Region}:${AWS::AccountId}:database/${AnalyticsDatabase} "
            "arn:${AWS::Partition}:glue:${AWS::Region}:${AWS::AccountId}:table/${AnalyticsDatabase}/usage_records",
            "Allow logs:PutLogEvents on UsageStreamLogs.Arn",
            "Allow s3:AbortMultipartUpload s3:PutObject on ${AnalyticsBucket.Arn}/usage/* "
            "${AnalyticsBucket.Arn}/errors/*",
            "Allow s3:GetBucketLocation s3:ListBucketMultipartUploads on AnalyticsBucket.Arn",
            "trusts firehose.amazonaws.com: sts:AssumeRole if StringEquals aws:SourceAccount AWS::AccountId",
        }
    ),
    # Of operators alone: QuickSight takes it, for whom the parameter QuickSightPrincipalArn names.
    "AnalystsRole": frozenset(
        {
            "Allow athena:BatchGetQueryExecution athena:GetQueryExecution athena:GetQueryResults "
            "athena:GetQueryResultsStream athena:GetWorkGroup athena:StartQueryExecution "
            "athena:StopQueryExecution on "
            "arn:${AWS::Partition}:athena:${AWS::Region}:${AWS::AccountId}:workgroup/${AnalyticsWorkGroup}",
            "Allow glue:GetDatabase glue:GetDatabases glue:GetPartitions glue:GetTable glue:GetTables on "
            "arn:${AWS::Partition}:glue:${AWS::Region}:${AWS::AccountId}:catalog "
            "arn:${AWS::Partition}:glue:${AWS::Region}:${AWS::AccountId}:database/${AnalyticsDatabase} "
            "arn:${AWS::Partition}:glue:${AWS::Region}:${AWS::AccountId}:table/${AnalyticsDatabase}/*",
            "Allow s3:AbortMultipartUpload s3:GetObject s3:ListMultipartUploadParts s3:PutObject on "
            "${AnalyticsBucket.Arn}/results/*",
            "Allow s3:GetBucketLocation on AnalyticsBucket.Arn",
            "Allow s3:GetObject on ${AnalyticsBucket.Arn}/usage/*",
            "Allow s3:ListBucket on AnalyticsBucket.Arn if StringLike s3:prefix usage/* results/*",
            "trusts quicksight.amazonaws.com: sts:AssumeRole if StringEquals aws:SourceAccount AWS::AccountId",
        }
    ),
    "AdminApiRole": frozenset(
        {
            "Allow dynamodb:GetItem dynamodb:PutItem dynamodb:Scan dynamodb:UpdateItem on RegistryTable.Arn",
            "Allow dynamodb:GetItem dynamodb:PutItem dynamodb:UpdateItem on OperationsTable.Arn",
            "Allow states:GetExecutionHistory on "
            "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:execution:${Workflow.Name}:*",
            "Allow states:StartExecution on Workflow",
        }
    ),
    "DiscoveryRole": frozenset(
        {
            "Allow dynamodb:GetItem on RegistryTable.Arn",
        }
    ),
    "WorkflowRole": frozenset(
        {
            "Allow events:PutEvents on EventBus.Arn",
            "Allow lambda:InvokeFunction on TenantStateFunction.Arn TenantUsersFunction.Arn TenantDataFunction.Arn",
            "Allow lambda:InvokeFunction on TenantStateFunction.Arn TenantUsersFunction.Arn "
            "TenantDataFunction.Arn TenantStackFunction.Arn",
            "trusts states.amazonaws.com: sts:AssumeRole if ArnEquals aws:SourceArn "
            "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:stateMachine:${Service}-${Stage}-tenants "
            "if StringEquals aws:SourceAccount AWS::AccountId",
        }
    ),
    "TenantStateRole": frozenset(
        {
            "Allow dynamodb:DeleteItem dynamodb:GetItem dynamodb:PutItem dynamodb:UpdateItem on RegistryTable.Arn",
            "Allow dynamodb:GetItem dynamodb:UpdateItem on OperationsTable.Arn",
        }
    ),
    "TenantUsersRole": frozenset(
        {
            "Allow cognito-idp:AdminAddUserToGroup cognito-idp:AdminCreateUser cognito-idp:AdminDeleteUser "
            "cognito-idp:AdminGetUser cognito-idp:AdminUserGlobalSignOut cognito-idp:ListUsers on UserPool.Arn",
            "Allow dynamodb:GetItem on RegistryTable.Arn",
            # Where tenants have pools of their own: whether one is there, and its users in the role for that tenant's.
            f"Allow cognito-idp:DescribeUserPool on {_ANY_POOL}",
            "Allow sts:AssumeRole sts:TagSession on UserKeepingRole.Arn",
            # A hub's client and profiles, and the lease under which the client is written.
            "Allow cognito-idp:AdminDeleteUser cognito-idp:AdminUserGlobalSignOut cognito-idp:DescribeUserPoolClient "
            "cognito-idp:ListIdentityProviders cognito-idp:ListUsers cognito-idp:UpdateUserPoolClient on UserPool.Arn",
            "Allow dynamodb:UpdateItem on RegistryTable.Arn if ForAllValues:StringEquals dynamodb:LeadingKeys HUB "
            "if Null dynamodb:LeadingKeys false",
        }
    ),
    "TenantDataRole": frozenset(
        {
            "Allow sts:AssumeRole on KnowledgeUpkeepRole.Arn",
            "Allow cloudformation:DescribeStacks on "
            "arn:${AWS::Partition}:cloudformation:${AWS::Region}:${AWS::AccountId}:"
            "stack/${Service}-${Stage}-tenant-*/*",
            "Allow dynamodb:GetItem on RegistryTable.Arn",
            "Allow sts:AssumeRole on MemoryUpkeepRole.Arn",
            "Allow sts:AssumeRole sts:TagSession on DataOperationsRole.Arn",
        }
    ),
    "DataOperationsRole": frozenset(
        {
            "Allow s3:DeleteObjectVersion s3:GetObject on DocumentsBucket.Arn "
            "/tenants/${aws:PrincipalTag/TenantId}/* "
            "arn:${AWS::Partition}:s3:::docs4(-(2(/(AWS::StackId))))-${!aws:PrincipalTag/TenantId}-????????????"
            "/tenants/${!aws:PrincipalTag/TenantId}/* "
            "if Null aws:PrincipalTag/TenantId false",
            "Allow s3:DeleteObjectVersion s3:GetObject on DocumentsBucket.Arn "
            "/tenants/${aws:PrincipalTag/TenantId}/* if Null aws:PrincipalTag/TenantId false",
            "Allow s3:DeleteObjectVersion s3:GetObject on "
            "arn:${AWS::Partition}:s3:::docs4(-(2(/(AWS::StackId))))-${!aws:PrincipalTag/TenantId}-????????????"
            "/tenants/${!aws:PrincipalTag/TenantId}/* "
            "if Null aws:PrincipalTag/TenantId false",
            "Allow s3:ListBucketVersions on DocumentsBucket.Arn "
            "arn:${AWS::Partition}:s3:::docs4(-(2(/(AWS::StackId))))-${!aws:PrincipalTag/TenantId}-???????????? "
            "if Null aws:PrincipalTag/TenantId false if StringLike s3:prefix "
            "tenants/${aws:PrincipalTag/TenantId}/*",
            "Allow s3:ListBucketVersions on DocumentsBucket.Arn if Null aws:PrincipalTag/TenantId false if "
            "StringLike s3:prefix tenants/${aws:PrincipalTag/TenantId}/*",
            "Allow s3:ListBucketVersions on "
            "arn:${AWS::Partition}:s3:::docs4(-(2(/(AWS::StackId))))-${!aws:PrincipalTag/TenantId}-???????????? "
            "if Null aws:PrincipalTag/TenantId false if StringLike s3:prefix "
            "tenants/${aws:PrincipalTag/TenantId}/*",
            "Allow bedrock-agentcore:DeleteEvent bedrock-agentcore:ListEvents bedrock-agentcore:ListSessions "
            "on Memory.MemoryArn if Null aws:PrincipalTag/TenantId false if StringLike "
            "bedrock-agentcore:actorId ${aws:PrincipalTag/TenantId}:*",
            "Allow bedrock-agentcore:DeleteEvent bedrock-agentcore:ListEvents bedrock-agentcore:ListSessions "
            "on arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:memory/t_* if Null "
            "aws:PrincipalTag/TenantId false if StringLike bedrock-agentcore:actorId "
            "${aws:PrincipalTag/TenantId}:*",
            "Allow bedrock-agentcore:DeleteEvent bedrock-agentcore:ListEvents bedrock-agentcore:ListSessions "
            "on Memory.MemoryArn arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:memory/t_* "
            "if Null aws:PrincipalTag/TenantId false if StringLike bedrock-agentcore:actorId "
            "${aws:PrincipalTag/TenantId}:*",
            "Allow bedrock-agentcore:ListMemoryRecords on Memory.MemoryArn "
            "arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:memory/t_* if Null "
            "aws:PrincipalTag/TenantId false if Null bedrock-agentcore:namespace true if StringLike "
            "bedrock-agentcore:namespacePath /actors/${aws:PrincipalTag/TenantId}:*",
            "Allow bedrock-agentcore:ListMemoryRecords on Memory.MemoryArn if Null aws:PrincipalTag/TenantId "
            "false if Null bedrock-agentcore:namespace true if StringLike bedrock-agentcore:namespacePath "
            "/actors/${aws:PrincipalTag/TenantId}:*",
            "Allow bedrock-agentcore:ListMemoryRecords on "
            "arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:memory/t_* if Null "
            "aws:PrincipalTag/TenantId false if Null bedrock-agentcore:namespace true if StringLike "
            "bedrock-agentcore:namespacePath /actors/${aws:PrincipalTag/TenantId}:*",
            "Allow dynamodb:BatchWriteItem dynamodb:Query on Table.Arn "
            "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/${Service}-${Stage}-tenant-* "
            "if ForAllValues:StringEquals dynamodb:LeadingKeys TENANT#${aws:PrincipalTag/TenantId} if Null "
            "aws:PrincipalTag/TenantId false if Null dynamodb:LeadingKeys false",
            "Allow dynamodb:BatchWriteItem dynamodb:Query on Table.Arn if ForAllValues:StringEquals "
            "dynamodb:LeadingKeys TENANT#${aws:PrincipalTag/TenantId} if Null aws:PrincipalTag/TenantId false "
            "if Null dynamodb:LeadingKeys false",
            "Allow dynamodb:BatchWriteItem dynamodb:Query on "
            "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/${Service}-${Stage}-tenant-* "
            "if ForAllValues:StringEquals dynamodb:LeadingKeys TENANT#${aws:PrincipalTag/TenantId} if Null "
            "aws:PrincipalTag/TenantId false if Null dynamodb:LeadingKeys false",
            "Allow dynamodb:BatchWriteItem dynamodb:Query on QuotaTable.Arn if ForAllValues:StringEquals "
            "dynamodb:LeadingKeys TENANT#${aws:PrincipalTag/TenantId} if Null aws:PrincipalTag/TenantId false "
            "if Null dynamodb:LeadingKeys false",
            "Allow s3:DeleteObject s3:GetObject s3:PutObject on ExportsBucket.Arn "
            "/tenants/${aws:PrincipalTag/TenantId}/* if Null aws:PrincipalTag/TenantId false",
            "Allow s3:DeleteObjectVersion s3:GetObject on Bucket.Arn /tenants/${aws:PrincipalTag/TenantId}/* "
            "arn:${AWS::Partition}:s3:::"
            "4(-(2(/(AWS::StackId))))-${!aws:PrincipalTag/TenantId}-????????????"
            "/tenants/${!aws:PrincipalTag/TenantId}/* if Null "
            "aws:PrincipalTag/TenantId false",
            "Allow s3:DeleteObjectVersion s3:GetObject on Bucket.Arn /tenants/${aws:PrincipalTag/TenantId}/* "
            "if Null aws:PrincipalTag/TenantId false",
            "Allow s3:DeleteObjectVersion s3:GetObject on "
            "arn:${AWS::Partition}:s3:::"
            "4(-(2(/(AWS::StackId))))-${!aws:PrincipalTag/TenantId}-????????????"
            "/tenants/${!aws:PrincipalTag/TenantId}/* if Null "
            "aws:PrincipalTag/TenantId false",
            "Allow s3:ListBucket on ExportsBucket.Arn if Null aws:PrincipalTag/TenantId false if StringLike "
            "s3:prefix tenants/${aws:PrincipalTag/TenantId}/*",
            "Allow s3:ListBucketVersions on Bucket.Arn arn:${AWS::Partition}:s3:::"
            "4(-(2(/(AWS::StackId))))-${!aws:PrincipalTag/TenantId}-????????????"
            " if "
            "Null aws:PrincipalTag/TenantId false if StringLike s3:prefix "
            "tenants/${aws:PrincipalTag/TenantId}/*",
            "Allow s3:ListBucketVersions on Bucket.Arn if Null aws:PrincipalTag/TenantId false if StringLike "
            "s3:prefix tenants/${aws:PrincipalTag/TenantId}/*",
            "Allow s3:ListBucketVersions on arn:${AWS::Partition}:s3:::"
            "4(-(2(/(AWS::StackId))))-${!aws:PrincipalTag/TenantId}-????????????"
            " if Null "
            "aws:PrincipalTag/TenantId false if StringLike s3:prefix tenants/${aws:PrincipalTag/TenantId}/*",
            f"Allow secretsmanager:DeleteSecret secretsmanager:DescribeSecret on {_SECRET}-?????? {_SECRET} "
            "if Null aws:PrincipalTag/TenantId false",
            "Allow bedrock-agentcore:DeleteOauth2CredentialProvider bedrock-agentcore:GetOauth2CredentialProvider on "
            f"{_VAULT} {_VAULT}/oauth2credentialprovider/ Service _ Stage _${{aws:PrincipalTag/TenantId}} "
            "if Null aws:PrincipalTag/TenantId false",
            "Allow secretsmanager:DeleteSecret on "
            "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:"
            "secret:bedrock-agentcore-identity!default/oauth2/ Service _ Stage _${aws:PrincipalTag/TenantId}-?????? "
            "if Null aws:PrincipalTag/TenantId false",
            "trusts TenantDataRole.Arn: sts:AssumeRole sts:TagSession if ForAllValues:StringEquals aws:TagKeys "
            "TenantId if StringLike aws:RequestTag/TenantId ?*",
        }
    ),
    "MemoryUpkeepRole": frozenset(
        {
            "Allow bedrock-agentcore:BatchDeleteMemoryRecords bedrock-agentcore:ListActors on Memory.MemoryArn",
            "Allow bedrock-agentcore:BatchDeleteMemoryRecords bedrock-agentcore:ListActors on Memory.MemoryArn "
            "arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:memory/t_*",
            "Allow bedrock-agentcore:BatchDeleteMemoryRecords bedrock-agentcore:ListActors on "
            "arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:memory/t_*",
            "trusts TenantDataRole.Arn: sts:AssumeRole",
        }
    ),
    "TenantStackRole": frozenset(
        {
            *(
                "Allow cloudformation:CreateStack cloudformation:UpdateStack on arn:${AWS::Partition}:cloudformation:"
                "${AWS::Region}:${AWS::AccountId}:stack/${Service}-${Stage}-tenant-*/* if ArnEquals "
                "cloudformation:RoleArn StackRole.Arn if StringEquals cloudformation:TemplateUrl "
                + " ".join(f"https://${{ArtifactsBucket}}.s3.${{AWS::Region}}.${{AWS::URLSuffix}}/{of}" for of in files)
                for files in _TENANT_TEMPLATES
            ),
            "Allow cloudformation:DeleteStack on "
            "arn:${AWS::Partition}:cloudformation:${AWS::Region}:${AWS::AccountId}:stack/${Service}-${Stage}-tenant-*/*"
            " if ArnEquals cloudformation:RoleArn StackRole.Arn",
            "Allow cloudformation:DescribeStacks cloudformation:TagResource "
            "cloudformation:UpdateTerminationProtection on "
            "arn:${AWS::Partition}:cloudformation:${AWS::Region}:${AWS::AccountId}:"
            "stack/${Service}-${Stage}-tenant-*/*",
            "Allow dynamodb:GetItem on RegistryTable.Arn",
            "Allow iam:PassRole on StackRole.Arn if StringEquals iam:PassedToService cloudformation.amazonaws.com",
            "Allow logs:CreateLogGroup logs:DeleteLogGroup logs:DescribeSubscriptionFilters logs:PutRetentionPolicy "
            "logs:PutSubscriptionFilter on "
            "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:/aws/bedrock-agentcore/runtimes/t_*",
            "Allow logs:DescribeLogGroups on arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:*",
            *(
                "Allow s3:GetObject on "
                + " ".join(f"arn:${{AWS::Partition}}:s3:::${{ArtifactsBucket}}/{of}" for of in files)
                for files in _TENANT_TEMPLATES
            ),
        }
    ),
    "StackRole": _OTHERS_POOLS
    | frozenset(
        {
            "Allow bedrock:CreateDataSource bedrock:DeleteDataSource bedrock:DeleteKnowledgeBase "
            "bedrock:GetDataSource bedrock:GetKnowledgeBase bedrock:ListTagsForResource bedrock:TagResource "
            "bedrock:UntagResource bedrock:UpdateDataSource bedrock:UpdateKnowledgeBase on "
            "arn:${AWS::Partition}:bedrock:${AWS::Region}:${AWS::AccountId}:knowledge-base/*",
            "Allow bedrock:CreateKnowledgeBase on *",
            "Allow iam:PassRole on "
            "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Service}/${Stage}/tenants/* if StringEquals "
            "iam:PassedToService bedrock.amazonaws.com",
            "Allow s3vectors:CreateIndex s3vectors:CreateVectorBucket s3vectors:DeleteIndex "
            "s3vectors:DeleteVectorBucket s3vectors:GetIndex s3vectors:GetVectorBucket "
            "s3vectors:ListTagsForResource s3vectors:TagResource s3vectors:UntagResource on "
            "arn:${AWS::Partition}:s3vectors:${AWS::Region}:${AWS::AccountId}:bucket/4(-(2(/(AWS::StackId))))-*",
            "Allow bedrock-agentcore:CreateAgentRuntime bedrock-agentcore:CreateAgentRuntimeEndpoint "
            "bedrock-agentcore:CreateWorkloadIdentity bedrock-agentcore:DeleteAgentRuntime "
            "bedrock-agentcore:DeleteAgentRuntimeEndpoint bedrock-agentcore:DeleteResourcePolicy "
            "bedrock-agentcore:DeleteWorkloadIdentity "
            "bedrock-agentcore:GetAgentRuntime bedrock-agentcore:GetAgentRuntimeEndpoint "
            "bedrock-agentcore:GetResourcePolicy bedrock-agentcore:GetWorkloadIdentity "
            "bedrock-agentcore:ListTagsForResource bedrock-agentcore:PutResourcePolicy "
            "bedrock-agentcore:TagResource bedrock-agentcore:UntagResource "
            "bedrock-agentcore:UpdateAgentRuntime on "
            "arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:runtime/* "
            "arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:workload-identity-directory/*",
            "Allow bedrock-agentcore:CreateGateway bedrock-agentcore:CreateGatewayRateLimit "
            "bedrock-agentcore:CreateGatewayTarget bedrock-agentcore:DeleteGateway "
            "bedrock-agentcore:DeleteGatewayRateLimit bedrock-agentcore:DeleteGatewayTarget "
            "bedrock-agentcore:GetGateway bedrock-agentcore:GetGatewayRateLimit bedrock-agentcore:GetGatewayTarget "
            "bedrock-agentcore:ListGatewayTargets bedrock-agentcore:ListTagsForResource "
            "bedrock-agentcore:SynchronizeGatewayTargets bedrock-agentcore:TagResource "
            "bedrock-agentcore:UntagResource bedrock-agentcore:UpdateGateway "
            "bedrock-agentcore:UpdateGatewayRateLimit bedrock-agentcore:UpdateGatewayTarget on "
            "arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:gateway/*",
            "Allow bedrock-agentcore:CreatePolicy bedrock-agentcore:CreatePolicyEngine bedrock-agentcore:DeletePolicy "
            "bedrock-agentcore:DeletePolicyEngine bedrock-agentcore:GetPolicy bedrock-agentcore:GetPolicyEngine "
            "bedrock-agentcore:ListTagsForResource bedrock-agentcore:ManageResourceScopedPolicy "
            "bedrock-agentcore:TagResource bedrock-agentcore:UntagResource bedrock-agentcore:UpdatePolicy "
            "bedrock-agentcore:UpdatePolicyEngine on "
            "arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:policy-engine/* "
            "arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:gateway/*",
            "Allow iam:PassRole on "
            "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Service}/${Stage}/tenants/* if StringEquals "
            "iam:PassedToService lambda.amazonaws.com",
            "Allow lambda:CreateFunction lambda:DeleteFunction lambda:GetFunction lambda:GetFunctionCodeSigningConfig "
            "lambda:GetFunctionConfiguration lambda:GetFunctionRecursionConfig lambda:GetRuntimeManagementConfig "
            "lambda:ListTags lambda:TagResource lambda:UntagResource "
            "lambda:UpdateFunctionCode lambda:UpdateFunctionConfiguration on "
            "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:4(-(2(/(AWS::StackId))))-*-gate "
            "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:4(-(2(/(AWS::StackId))))-*-tools",
            "Allow logs:CreateLogGroup logs:DeleteLogGroup logs:DeleteRetentionPolicy logs:ListTagsForResource "
            "logs:PutRetentionPolicy logs:TagResource logs:UntagResource on "
            "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:${Service}-${Stage}-tenant-*",
            "Allow logs:DescribeLogGroups on arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:*",
            "Allow s3:GetObject on arn:${AWS::Partition}:s3:::${ArtifactsBucket}/functions/*",
            "Allow bedrock-agentcore:CreateMemory bedrock-agentcore:DeleteMemory bedrock-agentcore:GetMemory "
            "bedrock-agentcore:ListTagsForResource bedrock-agentcore:TagResource "
            "bedrock-agentcore:UntagResource bedrock-agentcore:UpdateMemory on "
            "arn:${AWS::Partition}:bedrock-agentcore:${AWS::Region}:${AWS::AccountId}:memory/*",
            "Allow dynamodb:CreateTable dynamodb:DeleteTable dynamodb:DescribeContinuousBackups "
            "dynamodb:DescribeContributorInsights dynamodb:DescribeKinesisStreamingDestination "
            "dynamodb:DescribeTable dynamodb:DescribeTimeToLive dynamodb:GetResourcePolicy "
            "dynamodb:ListTagsOfResource dynamodb:TagResource dynamodb:UntagResource "
            "dynamodb:UpdateContinuousBackups dynamodb:UpdateTable on "
            "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/${Service}-${Stage}-tenant-*",
            "Allow iam:CreateRole iam:DeleteRolePolicy iam:PutRolePermissionsBoundary iam:PutRolePolicy on "
            "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Service}/${Stage}/tenants/* if ArnEquals "
            "iam:PermissionsBoundary TenantBoundary",
            "Allow iam:DeleteRole iam:GetRole iam:GetRolePolicy iam:ListAttachedRolePolicies "
            "iam:ListRolePolicies iam:ListRoleTags iam:TagRole iam:UntagRole iam:UpdateAssumeRolePolicy "
            "iam:UpdateRole iam:UpdateRoleDescription on "
            "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Service}/${Stage}/tenants/*",
            "Allow iam:PassRole on "
            "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Service}/${Stage}/tenants/* if StringEquals "
            "iam:PassedToService bedrock-agentcore.amazonaws.com",
            _KEEP_BUCKETS + _OWN_BUCKETS,
            _KEEP_BUCKETS + _OWN_DOCUMENTS,
            f"{_KEEP_BUCKETS}{_OWN_BUCKETS} {_OWN_DOCUMENTS}",
            "Allow s3:GetObject on arn:${AWS::Partition}:s3:::${ArtifactsBucket}/runtime/*",
            # Where tenants have pools of their own: pools of this stage's tenants, and what makes their tokens.
            "Allow cognito-idp:CreateUserPool cognito-idp:TagResource on * if Null aws:RequestTag/TenantId false "
            "if StringEquals aws:RequestTag/service Service if StringEquals aws:RequestTag/stage Stage",
            f"Allow {_KEEPING_POOLS} on {_ANY_POOL} if Null aws:ResourceTag/TenantId false{_OF_THIS_STAGE}",
            f"Allow {_KEEPING_POOLS_AND_DOMAINS} on {_ANY_POOL} if Null aws:ResourceTag/TenantId false{_OF_THIS_STAGE}",
            "Allow cognito-idp:DescribeUserPoolDomain on *",
            "Allow cognito-idp:CreateIdentityProvider cognito-idp:DeleteIdentityProvider "
            "cognito-idp:DescribeIdentityProvider cognito-idp:UpdateIdentityProvider on UserPool.Arn",
            "Allow iam:PassRole on arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Service}/${Stage}/tenants/* "
            "if StringEquals iam:PassedToService bedrock-agentcore.amazonaws.com lambda.amazonaws.com",
            "Allow lambda:AddPermission lambda:CreateFunction lambda:DeleteFunction lambda:GetFunction "
            "lambda:GetFunctionCodeSigningConfig lambda:GetFunctionConfiguration lambda:GetFunctionRecursionConfig "
            "lambda:GetPolicy lambda:GetRuntimeManagementConfig lambda:ListTags lambda:RemovePermission "
            "lambda:TagResource lambda:UntagResource lambda:UpdateFunctionCode lambda:UpdateFunctionConfiguration on "
            "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:4(-(2(/(AWS::StackId))))-*-token",
            "Allow logs:CreateLogGroup logs:DeleteLogGroup logs:DeleteRetentionPolicy logs:ListTagsForResource "
            "logs:PutRetentionPolicy logs:TagResource logs:UntagResource on arn:${AWS::Partition}:logs:${AWS::Region}:"
            "${AWS::AccountId}:log-group:/aws/lambda/${Service}-${Stage}-pre-token-*",
            "Allow s3:GetObject on arn:${AWS::Partition}:s3:::${ArtifactsBucket}/runtime/* "
            "arn:${AWS::Partition}:s3:::${ArtifactsBucket}/functions/*",
            "Allow bedrock-agentcore:CreateWorkloadIdentity bedrock-agentcore:DeleteWorkloadIdentity "
            "bedrock-agentcore:GetWorkloadIdentity bedrock-agentcore:ListTagsForResource "
            "bedrock-agentcore:TagResource bedrock-agentcore:UntagResource bedrock-agentcore:UpdateWorkloadIdentity "
            f"on {_DIRECTORY} {_DIRECTORY}/workload-identity/${{Service}}_${{Stage}}_*",
            "trusts cloudformation.amazonaws.com: sts:AssumeRole",
        }
    ),
    # Which pool a token is of, where tenants' own runtimes trust tenants' own; all else in a session of the tenant.
    "UsageApiRole": frozenset(
        {
            "Allow dynamodb:GetItem on RegistryTable.Arn",
            "Allow sts:AssumeRole sts:TagSession on UsageReadingRole.Arn",
        }
    ),
    "UsageReadingRole": frozenset(
        {
            f"Allow dynamodb:GetItem on RegistryTable.Arn{_OWN_ITEMS}",
            f"Allow dynamodb:BatchGetItem dynamodb:Query on LedgerTable.Arn{_OWN_ITEMS}",
            "trusts UsageApiRole.Arn: sts:AssumeRole sts:TagSession "
            "if ForAllValues:StringEquals aws:TagKeys TenantId if StringLike aws:RequestTag/TenantId ?*",
        }
    ),
    # Its tenant comes from a token that the function verifies: IAM can't hold any of these calls to one.
    "KnowledgeRole": frozenset(
        {
            "Allow dynamodb:GetItem on RegistryTable.Arn",
            "Allow bedrock:DeleteKnowledgeBaseDocuments bedrock:GetKnowledgeBaseDocuments "
            "bedrock:IngestKnowledgeBaseDocuments bedrock:Retrieve bedrock:StartIngestionJob "
            "on KnowledgeBase.KnowledgeBaseArn",
        }
    ),
    # Nothing holds these to a tenant but the code that calls them.
    "KnowledgeUpkeepRole": frozenset(
        {
            "Allow bedrock:DeleteKnowledgeBaseDocuments bedrock:GetKnowledgeBaseDocuments "
            "bedrock:ListKnowledgeBaseDocuments bedrock:Retrieve bedrock:StartIngestionJob on "
            "KnowledgeBase.KnowledgeBaseArn",
            "trusts TenantDataRole.Arn: sts:AssumeRole",
        }
    ),
    # Of the shared knowledge base and of a tenant's own, which reads that tenant's documents alone.
    "KnowledgeBaseRole": frozenset(
        {
            "trusts bedrock.amazonaws.com: sts:AssumeRole "
            "if ArnLike aws:SourceArn arn:${AWS::Partition}:bedrock:${AWS::Region}:${AWS::AccountId}:knowledge-base/* "
            "if StringEquals aws:SourceAccount AWS::AccountId",
            "Allow bedrock:InvokeModel on "
            "arn:${AWS::Partition}:bedrock:${AWS::Region}::foundation-model/amazon.titan-embed-text-v2:0",
            "Allow s3vectors:DeleteVectors s3vectors:GetIndex s3vectors:GetVectors s3vectors:PutVectors "
            "s3vectors:QueryVectors on KnowledgeIndex.IndexArn",
            "Allow s3:GetObject on ${DocumentsBucket.Arn}/tenants/* if StringEquals aws:ResourceAccount AWS::AccountId",
            "Allow s3:GetObject on DocumentsBucket.Arn /tenants/${TenantId}/* "
            "if StringEquals aws:ResourceAccount AWS::AccountId",
        }
    ),
}
"""What each role may do and who may take it, by its name in the templates; see `grants` for the form.

A function's role needs no line for its own log group, nor for being Lambda's. A Deny that stands here must be there.
"""

_METHODS = "from arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}/${ApiStage}"

FROM_OUTSIDE: Mapping[str, str] = {
    "AdminApiPermission": f"apigateway.amazonaws.com of AWS::AccountId {_METHODS}/*",
    # What is below /users, for tenants' administrators, and below /tenants/{tenant_id}/users, for operators.
    "UsersPermission": f"apigateway.amazonaws.com of AWS::AccountId {_METHODS}/*/users*",
    # For tenants' users, and so for the gateway with their tokens.
    "UsageApiPermission": f"apigateway.amazonaws.com of AWS::AccountId {_METHODS}/GET/usage*",
    "DiscoveryPermission": f"apigateway.amazonaws.com of AWS::AccountId {_METHODS}/GET/discovery/*",
    "PreTokenPermission": "cognito-idp.amazonaws.com of AWS::AccountId from UserPool.Arn",
    "LedgerPermission": "logs.amazonaws.com of AWS::AccountId from "
    f"arn:${{AWS::Partition}}:logs:${{AWS::Region}}:${{AWS::AccountId}}:{_LOG_STREAMS}*:*",
}
"""Which service may invoke a function without a role, by the permission's name in the templates."""

_ONLY_OWN_CLIENT: Mapping[str, Any] = {
    "PreventUserExistenceErrors": "ENABLED",
    "EnableTokenRevocation": True,
    "TokenValidityUnits.AccessToken": "minutes",
    "TokenValidityUnits.IdToken": "minutes",
    "TokenValidityUnits.RefreshToken": ("days", "hours"),
}
# What makes a client one whose users sign in on a page, with a code: no token in an address, none for a password, and
# none with which a user could change itself.
_PAGES: Mapping[str, frozenset[str]] = {
    "AllowedOAuthFlows": frozenset({"code"}),
    "AllowedOAuthScopes": frozenset({"openid", "email"}),
    "ExplicitAuthFlows": frozenset({"ALLOW_REFRESH_TOKEN_AUTH"}),
}
_CLOSED = dict.fromkeys(("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True)


def _of_everybody(effect: str, *operations: str) -> Mapping[str, Any]:
    actions = [f"bedrock-agentcore:{operation}" for operation in operations]
    return {"Effect": effect, "Principal": "*", "Action": actions, "Resource": "${Runtime.AgentRuntimeArn}"}


RUNTIME_POLICY = (
    _of_everybody("Allow", "InvokeAgentRuntime"),
    _of_everybody(
        "Deny",
        "InvokeAgentRuntimeCommand",
        "InvokeAgentRuntimeCommandShell",
        "InvokeAgentRuntimeForUser",
        "InvokeAgentRuntimeWithWebSocketStream",
        "InvokeAgentRuntimeWithWebSocketStreamForUser",
        "StopRuntimeSession",
    ),
)
"""Of every runtime: its authorizer lets a token through to a shell as well, as the agent itself."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "AWS::Cognito::UserPool": {
        "AdminCreateUserConfig.AllowAdminCreateUserOnly": True,
    },
    "AWS::Cognito::UserPoolClient": _ONLY_OWN_CLIENT,
    "AWS::BedrockAgentCore::Runtime": {
        "ProtocolConfiguration": "HTTP",
        # A session that the quotas no longer count has ended (`saas_agent/tenancy/quotas.py`).
        "LifecycleConfiguration.IdleRuntimeSessionTimeout": 900,
        # A runtime without a list of clients takes a token for any client of its issuer.
        "AuthorizerConfiguration.CustomJWTAuthorizer.AllowedClients": (["UserPoolClient"], ["ClientId"]),
        "AuthorizerConfiguration.CustomJWTAuthorizer.DiscoveryUrl": (
            "UserPool.ProviderURL /.well-known/openid-configuration",
            "Issuer /.well-known/openid-configuration",
        ),
    },
    # The provider's name is the tenant's; a mapped attribute is what a tenant's pool may say of its user.
    "AWS::Cognito::UserPoolIdentityProvider": {
        "UserPoolId": "UserPoolId",
        "ProviderName": "TenantId",
        "ProviderType": "OIDC",
        "ProviderDetails.client_id": "UserPoolClient",
        "ProviderDetails.client_secret": "UserPoolClient.ClientSecret",
        "ProviderDetails.oidc_issuer": "UserPool.ProviderURL",
        "ProviderDetails.jwks_uri": "${UserPool.ProviderURL}/.well-known/jwks.json",
        "AttributeMapping": {"email": "email"},
    },
    "AWS::BedrockAgentCore::Gateway": {
        "AuthorizerType": "CUSTOM_JWT",
        "AuthorizerConfiguration.CustomJWTAuthorizer.AllowedClients": (["UserPoolClient"], ["ClientId"]),
        "AuthorizerConfiguration.CustomJWTAuthorizer.DiscoveryUrl": (
            "UserPool.ProviderURL /.well-known/openid-configuration",
            "Issuer /.well-known/openid-configuration",
        ),
        # Without it the tools take a client's word for who calls.
        "InterceptorConfigurations": [
            {
                "Interceptor": {"Lambda": {"Arn": "GatewayInterceptorFunction.Arn"}},
                "InterceptionPoints": ["REQUEST", "RESPONSE"],
                "InputConfiguration": {"PassRequestHeaders": True},
            }
        ],
        "PolicyEngineConfiguration": {"Arn": "PolicyEngine.PolicyEngineArn", "Mode": "ENFORCE"},
        # What it would tell of errors is for nobody else.
        "ExceptionLevel": None,
    },
    "AWS::BedrockAgentCore::Policy": {"ValidationMode": "FAIL_ON_ANY_FINDINGS", "EnforcementMode": None},
    # Never a key or a client of the platform's own, which would be the same for every tenant: a function is called in
    # the gateway's role, an API with nothing but the caller's token.
    "AWS::BedrockAgentCore::GatewayTarget": {
        "CredentialProviderConfigurations": ([{"CredentialProviderType": "GATEWAY_IAM_ROLE"}], None),
    },
    "AWS::IAM::OIDCProvider": {"ClientIdList": ["UserPoolClient"], "Url": "UserPool.ProviderURL"},
    "AWS::S3::Bucket": {
        "PublicAccessBlockConfiguration": _CLOSED,
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "BucketEncryption.ServerSideEncryptionConfiguration": [
            {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        ],
        "VersioningConfiguration.Status": "Enabled",
    },
    # What is open at the API has no other limit.
    "AWS::ApiGateway::Stage": {
        "MethodSettings": [
            {"HttpMethod": "*", "ResourcePath": "/*", "ThrottlingBurstLimit": 20, "ThrottlingRateLimit": 20}
        ]
    },
    "AWS::Logs::LogGroup": {"RetentionInDays": "LogRetentionDays"},
    # One that reads a bucket takes metadata, and so the tenant, from files that whoever writes documents may write.
    "AWS::Bedrock::DataSource": {"DataSourceConfiguration.Type": "CUSTOM"},
}
"""What every resource of a type has: path of properties -> value, with references as `text` shows them.

Several values in a tuple: one of them, for the platform's stack and for a tenant's.
"""

NOTHING_BUT: Mapping[str, Mapping[str, frozenset[str]]] = {
    "AWS::Cognito::UserPoolClient": {
        # No flow in which the password itself goes to Cognito, but for operators with IAM permissions.
        "ExplicitAuthFlows": frozenset(
            {"ALLOW_USER_SRP_AUTH", "ALLOW_ADMIN_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"}
        ),
        # Never an attribute that says whose user it is. A mapped one has to be writable; see `_pages`.
        "WriteAttributes": frozenset({"name", "email"}),
    },
    "AWS::BedrockAgentCore::Runtime": {
        "RequestHeaderConfiguration.RequestHeaderAllowlist": frozenset(
            {"Authorization", "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Id-Token"}
        ),
    },
    # What the interceptor sets, and so nobody else.
    "AWS::BedrockAgentCore::GatewayTarget": {
        "MetadataConfiguration.AllowedRequestHeaders": frozenset(
            {"X-Tenant-Id", "X-Tenant-Tier", "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Id-Token"}
        ),
    },
}
"""Lists that every resource of a type has, and that hold nothing else."""

AT_MOST: Mapping[str, Mapping[str, int]] = {
    "AWS::Cognito::UserPoolClient": {"AccessTokenValidity": 60, "IdTokenValidity": 60, "RefreshTokenValidity": 30},
}
"""Numbers that every resource of a type has."""

_SESSION_SECONDS = 3600
# In a tenant's stack they take that tenant's tokens alone.
_OF_A_TENANT = ("AWS::BedrockAgentCore::Runtime", "AWS::BedrockAgentCore::Gateway")
# Attached to nobody: a permissions boundary, which takes away and gives nothing.
_BOUNDARY = ("AWS::IAM::ManagedPolicy", {"PolicyDocument"})
_BOUNDED = EXECUTION.union(GATEWAY, KNOWLEDGE_SERVICE, *ALLOWED.values())
# A copy, deleted for good when its tenant is, and never overwritten.
_UNVERSIONED = ("ExportsBucket", "VersioningConfiguration.Status")
_HERE = "tests/isolation/test_stacks.py"


def deployed_templates(stage: Stage) -> dict[str, Template]:
    """The template of every kind of stack, by its file's name without the ending, as CloudFormation has them."""
    placement = load_placement()
    examples: dict[str, str] = {}
    for tier in placement.tiers:
        file = placement.stack_template(tier)
        if file and file not in examples.values():
            examples[f"tenant-own-{tier}"] = file
            stage.onboard(f"own-{tier}", tier)
    cloudformation = stage.session.client("cloudformation")
    templates: dict[str, Template] = {}
    for page in cloudformation.get_paginator("describe_stacks").paginate():
        for stack in page["Stacks"]:
            kind = stack["StackName"].removeprefix(f"{stage.outputs['Service']}-{stage.outputs['Stage']}-")
            if kind.startswith("tenant-") and kind not in examples:
                continue  # one of each is enough
            body = cloudformation.get_template(StackName=stack["StackName"])["TemplateBody"]
            file = examples.get(kind, kind).removesuffix(".yaml")
            templates[file] = formation.parse(body if isinstance(body, str) else json.dumps(body))
    return templates


def violations(template: Template) -> Iterator[str]:
    """What is wrong with a template, one line each, with what to do where it is right after all."""
    for name, role in _of_type(template, "AWS::IAM::Role"):
        yield from _role(template, name, role)
    for name, resource in template["Resources"].items():
        yield from _resource(name, resource)
    for name, policy in _of_type(template, "AWS::IAM::Policy"):
        of = as_list(policy.get("Roles", []))
        if policy.keys() & {"Users", "Groups"} or not of or not all(role.keys() == {"Ref"} for role in of):
            yield f"{name}: of somebody else than a role of this template, which nothing here looks at"
    for name, _ in _of_type(template, "AWS::BedrockAgentCore::Runtime"):
        policies = [policy["ResourceArn"] for _, policy in _of_type(template, _RUNTIME_POLICY)]
        if f"{name}.AgentRuntimeArn" not in map(text, policies):
            yield f"{name}: no policy of its own: whoever has a token opens a shell in it"
    yield from _settings(template)
    yield from _buckets(template)


def text(value: Any) -> str:
    """A property as one text: references by their names, lists with spaces."""
    if isinstance(value, list):
        return " ".join(map(text, value))
    if not isinstance(value, dict):
        return str(value)
    [(function, argument)] = value.items() if len(value) == 1 else [("", value)]
    match function, argument:
        case "Ref", str():
            return argument
        case "Fn::GetAtt", list():
            return ".".join(argument)
        case "Fn::FindInMap", list():
            return str(argument[-1])
        case "Fn::Sub", str():
            return argument
        case "Fn::Sub", [str(pattern), dict(values)]:
            for name, meant in values.items():
                pattern = pattern.replace(f"${{{name}}}", text(meant))
            return pattern
        case "Fn::Join", ["", parts]:
            return text(parts)
        case (("Fn::Join" | "Fn::Split" | "Fn::Select"), [separator, parts]):
            return f"{separator}({text(parts)})"
    return json.dumps(value, sort_keys=True)


def grants(template: Template, role_name: str) -> Iterator[str]:
    """What a role may do and who may take it: `Allow <actions> on <resources>[ if <operator> <key> <values>]...`."""
    role = template["Resources"][role_name]["Properties"]
    for statement in as_list(_document(role["AssumeRolePolicyDocument"]).get("Statement", [])):
        principal = statement.get("Principal", "*")
        # Who becomes a tenant by a token or through a function is for the trust layer.
        if role_name != TENANT_ROLE or _is_a_runtimes(template, role_name):
            who = text(list(principal.values())) if isinstance(principal, dict) else principal
            yield f"trusts {who}: {_actions(statement)}{_conditions(statement)}"
    for policy in _policies(template, role_name):
        for statement in as_list(_document(policy)["Statement"]):
            if role_name == TENANT_ROLE and not _is_for_the_runtime(statement):
                continue
            where = " ".join(text(resource) for resource in as_list(statement.get("Resource", "NotResource")))
            yield f"{statement['Effect']} {_actions(statement)} on {where}{_conditions(statement)}"


def _is_a_runtimes(template: Template, role_name: str) -> bool:
    runtimes = _of_type(template, "AWS::BedrockAgentCore::Runtime")
    return any(text(runtime["RoleArn"]) == f"{role_name}.Arn" for _, runtime in runtimes)


def _is_for_the_runtime(statement: Mapping[str, Any]) -> bool:
    services = {action.partition(":")[0] for action in as_list(statement.get("Action", "NotAction"))}
    return statement["Effect"] == "Deny" or bool(services & {action.partition(":")[0] for action in EXECUTION})


def _policies(template: Template, role_name: str) -> Iterator[Any]:
    for policy in template["Resources"][role_name]["Properties"].get("Policies", []):
        yield policy["PolicyDocument"]
    for _, properties in _of_type(template, "AWS::IAM::Policy"):
        if {"Ref": role_name} in as_list(properties.get("Roles", [])):
            yield properties["PolicyDocument"]


def _document(document: Any) -> Mapping[str, Any]:
    # Text where one of its keys is made of a name; its variables stay as they are.
    if isinstance(document, dict) and "Fn::Sub" in document:
        document = json.loads(as_list(document["Fn::Sub"])[0])
    parsed: Mapping[str, Any] = document
    return parsed


def _actions(statement: Mapping[str, Any]) -> str:
    return " ".join(sorted(as_list(statement.get("Action", "NotAction"))))


def _conditions(statement: Mapping[str, Any]) -> str:
    found = [
        f" if {operator} {key} {text(values)}"
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    ]
    return "".join(sorted(found))


def _role(template: Template, name: str, role: Mapping[str, Any]) -> Iterator[str]:
    held, allowed = set(grants(template, name)), set(GRANTS.get(name, ()))
    for _, function in _of_type(template, "AWS::Lambda::Function"):
        if text(function["Role"]) == f"{name}.Arn":
            log = text(function["LoggingConfig"]["LogGroup"])
            allowed |= {
                "trusts lambda.amazonaws.com: sts:AssumeRole",
                f"Allow logs:CreateLogStream logs:PutLogEvents on {log}.Arn",
            }
    for line in sorted(held - allowed):
        yield f"{name}: not listed: {line!r}; if the role needs it, add this line to GRANTS[{name!r}] in {_HERE}"
    for line in sorted(allowed - held):
        if line.startswith("Deny") and (name != TENANT_ROLE or _is_a_runtimes(template, name)):
            yield f"{name}: gone: {line!r}"
    if "TenantId" in template.get("Parameters", {}) and text(role.get("PermissionsBoundary")) != "TenantBoundaryArn":
        yield f"{name}: no boundary to what a role of a tenant's stack may do"
    if "ManagedPolicyArns" in role:
        yield f"{name}: managed policies hold what nobody listed; write out what is needed"
    if role.get("MaxSessionDuration", _SESSION_SECONDS) > _SESSION_SECONDS:
        yield f"{name}: sessions longer than {_SESSION_SECONDS} seconds"


def _resource(name: str, resource: Mapping[str, Any]) -> Iterator[str]:
    kind, properties = resource["Type"], resource.get("Properties", {})
    if kind in ("AWS::IAM::Role", "AWS::IAM::Policy"):
        return
    if (kind, properties.keys()) == _BOUNDARY:
        for statement in properties["PolicyDocument"]["Statement"]:
            for action in set(as_list(statement.get("Action", "NotAction"))) - _BOUNDED:
                yield f"{name}: {action} is more than an agent ever does"
        return
    if kind == "AWS::Lambda::Permission":
        who = " ".join(
            f"{word}{text(properties[key])}" if key in properties else f"{word}anybody"
            for word, key in (("", "Principal"), ("of ", "SourceAccount"), ("from ", "SourceArn"))
        )
        if FROM_OUTSIDE.get(name) != who or properties.get("Action") != "lambda:InvokeFunction":
            yield f"{name}: not listed: {who!r}; if it must be, add it to FROM_OUTSIDE in {_HERE}"
    elif kind == _RUNTIME_POLICY and text(properties.get("ResourceArn")) == "Runtime.AgentRuntimeArn":
        statements = json.loads(properties["Policy"]["Fn::Sub"])["Statement"]
        found = tuple({**_unnamed(statement), "Action": as_list(statement["Action"])} for statement in statements)
        if found != RUNTIME_POLICY or "Condition" in resource:
            yield f"{name}: not the policy that lets everybody ask the agent, and nothing else; see {_HERE}"
        return
    elif kind == "AWS::Lambda::Url" or (kind.startswith("AWS::IAM::") and kind != "AWS::IAM::OIDCProvider"):
        yield f"{name}: {kind} lets in whom no check here reads"
    # Within one account a resource's own policy needs no consent of the caller's role: it is a way around all of those.
    for statement in _statements_in(properties):
        if statement.get("Effect") != "Deny":
            yield f"{name}: a resource policy that allows: {json.dumps(statement, sort_keys=True)}"


def _unnamed(statement: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in statement.items() if key != "Sid"}


def _statements_in(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        if "Effect" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _statements_in(part)
    elif isinstance(value, str) and '"Effect"' in value:
        yield {"Effect": "in a text", "text": value}


def _settings(template: Template) -> Iterator[str]:
    for name, resource in template["Resources"].items():
        kind, properties = resource["Type"], resource.get("Properties", {})
        for path, value in SETTINGS.get(kind, {}).items():
            found = _shown(_at(properties, path))
            value = None if (name, path) == _UNVERSIONED else value
            if found not in (value if isinstance(value, tuple) else (value,)):
                yield f"{name}: {path} is {found!r}; expected {value!r}"
        for path, allowed in NOTHING_BUT.get(kind, {}).items():
            listed = _at(properties, path)
            if _is_api(kind, properties):
                if properties.keys() & {"MetadataConfiguration", "CredentialProviderConfigurations"}:
                    yield f"{name}: an API gets the caller's token from the interceptor, and nothing else"
                continue
            # Without the list, Cognito and AgentCore choose one of their own.
            if not isinstance(listed, list) or not allowed.issuperset(map(text, listed)):
                yield f"{name}: {path} is {listed!r}; expected nothing but {sorted(allowed)}; see {_HERE}"
        for path, most in AT_MOST.get(kind, {}).items():
            number = _at(properties, path)
            if not isinstance(number, int) or not 0 < number <= most:
                yield f"{name}: {path} is {number!r}; expected at most {most}"
        yield from _tenant_attribute(name, kind, properties)
        yield from _pages(name, kind, properties)
        yield from _tenants_own_runtime(name, kind, properties, template)


def _is_api(kind: str, properties: Mapping[str, Any]) -> bool:
    target = _at(properties, "TargetConfiguration.Mcp.OpenApiSchema")
    return kind == "AWS::BedrockAgentCore::GatewayTarget" and target is not None


def _tenant_attribute(name: str, kind: str, properties: Mapping[str, Any]) -> Iterator[str]:
    if kind == "AWS::Cognito::UserPool":
        for attribute in properties.get("Schema", []):
            if attribute.get("Mutable") is not False:
                yield f"{name}: {attribute['Name']} can be changed"


def _pages(name: str, kind: str, properties: Mapping[str, Any]) -> Iterator[str]:
    if kind != "AWS::Cognito::UserPoolClient":
        return
    if any(path in properties for path in ("AllowedOAuthFlows", "AllowedOAuthScopes", "CallbackURLs")):
        for path, allowed in _PAGES.items():
            if not properties.get(path) or not allowed.issuperset(properties[path]):
                yield f"{name}: {path} is {properties.get(path)!r}; expected nothing but {sorted(allowed)}; see {_HERE}"
    elif "email" in properties.get("WriteAttributes", []):
        yield f"{name}: users can change the address that they sign in with"


def _tenants_own_runtime(name: str, kind: str, properties: Mapping[str, Any], template: Template) -> Iterator[str]:
    if kind in _OF_A_TENANT and "TenantId" in template.get("Parameters", {}):
        claims = _at(properties, "AuthorizerConfiguration.CustomJWTAuthorizer.CustomClaims")
        pinned = {
            "InboundTokenClaimName": "tenant_id",
            "InboundTokenClaimValueType": "STRING",
            "AuthorizingClaimMatchValue": {
                "ClaimMatchOperator": "EQUALS",
                "ClaimMatchValue": {"MatchValueString": {"Ref": "TenantId"}},
            },
        }
        if claims != [pinned]:
            yield f"{name}: it takes tokens of other tenants"


def _buckets(template: Template) -> Iterator[str]:
    guarded = {
        text(policy["Bucket"])
        for _, policy in _of_type(template, "AWS::S3::BucketPolicy")
        for statement in policy["PolicyDocument"]["Statement"]
        if statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}} and statement["Effect"] == "Deny"
    }
    for name, _ in _of_type(template, "AWS::S3::Bucket"):
        if name not in guarded:
            yield f"{name}: no bucket policy that refuses connections without TLS"
    for name, bucket in _of_type(template, "AWS::S3::Bucket"):
        if not any(
            rule["Status"] == "Enabled" and rule.keys() & {"ExpirationInDays", "NoncurrentVersionExpiration"}
            for rule in (_at(bucket, "LifecycleConfiguration.Rules") or ())
        ):
            yield f"{name}: no rule that ends copies and old versions; see {_HERE}"


def _of_type(template: Template, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, resource in template["Resources"].items():
        if resource["Type"] == kind:
            yield name, resource.get("Properties", {})


def _at(properties: Any, path: str) -> Any:
    for part in path.split("."):
        properties = properties.get(part) if isinstance(properties, dict) else None
    return properties


def _shown(value: Any) -> Any:
    """The value with its references as text."""
    if isinstance(value, list):
        return [_shown(part) for part in value]
    if isinstance(value, dict):
        if any(key == "Ref" or key.startswith("Fn::") for key in value):
            return text(value)
        return {key: _shown(part) for key, part in value.items()}
    return value


# --- The tests ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def templates(stage: Stage) -> dict[str, Template]:
    """The deployed templates, by kind of stack."""
    return deployed_templates(stage)


def test_the_stacks_hold_nothing_that_is_not_listed(templates: dict[str, Template]) -> None:
    placement = load_placement()
    wanted = {placement.stack_template(tier) for tier in placement.tiers} - {None}
    assert set(templates) == {"artifacts", "platform"} | {str(file).removesuffix(".yaml") for file in wanted}
    for kind, template in templates.items():
        assert [f"{kind} stack: {line}" for line in violations(template)] == []


def _set(template: Template, name: str, path: str, value: Any) -> Template:
    """A copy of the template with one property of a resource set; None removes it."""
    copy: dict[str, Any] = deepcopy(dict(template))
    place = copy["Resources"][name]["Properties"]
    *before, last = path.split(".")
    for part in before:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    if isinstance(place, list):
        place[int(last)] = value
    elif value is None:
        place.pop(last, None)
    else:
        place[last] = value
    return copy


def _with(template: Template, kind: str, properties: Mapping[str, Any]) -> Template:
    resources = {**template["Resources"], "Further": {"Type": kind, "Properties": properties}}
    return {**template, "Resources": resources}


_ANYBODY = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}
_POLICY = {"Version": "2012-10-17", "Statement": [_ANYBODY]}

FURTHER: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("AWS::S3::BucketPolicy", {"Bucket": {"Ref": "Bucket"}, "PolicyDocument": _POLICY}),
    ("AWS::DynamoDB::Table", {"ResourcePolicy": {"PolicyDocument": _POLICY}}),
    ("AWS::Lambda::Permission", {"FunctionName": "f", "Action": "lambda:InvokeFunction", "Principal": "*"}),
    ("AWS::Lambda::Url", {"AuthType": "NONE"}),
    ("AWS::SQS::QueuePolicy", {"PolicyDocument": _POLICY}),
    ("AWS::Logs::ResourcePolicy", {"PolicyDocument": json.dumps(_POLICY)}),
    ("AWS::BedrockAgentCore::ResourcePolicy", {"Policy": {"Fn::Sub": json.dumps(_POLICY)}}),
    ("AWS::IAM::ManagedPolicy", {"PolicyDocument": _POLICY, "Roles": ["r"]}),
    ("AWS::IAM::UserPolicy", {"PolicyDocument": _POLICY}),
    ("AWS::IAM::Role", {"AssumeRolePolicyDocument": {"Statement": []}, "Policies": [{"PolicyDocument": _POLICY}]}),
    ("AWS::S3::Bucket", {}),
    ("AWS::Cognito::UserPool", {}),
    ("AWS::Cognito::UserPoolClient", {}),
)
"""Resources that nobody may add unnoticed."""

_ANY_HEADER = {"AllowedRequestHeaders": ["X-Any"]}
_JWT = "AuthorizerConfiguration.CustomJWTAuthorizer"
WEAKER: Mapping[str, Sequence[tuple[str, Any]]] = {
    "AWS::Cognito::UserPool": (
        ("AdminCreateUserConfig.AllowAdminCreateUserOnly", False),
        ("AdminCreateUserConfig", None),
        ("Schema", [{"Name": "tenant_id", "AttributeDataType": "String", "Mutable": True}]),
    ),
    "AWS::Cognito::UserPoolClient": (
        ("WriteAttributes", None),
        ("WriteAttributes", ["name", "custom:tenant_id"]),
        ("ExplicitAuthFlows", ["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]),
        ("ExplicitAuthFlows", None),
        ("AccessTokenValidity", 1440),
        ("IdTokenValidity", None),
        ("TokenValidityUnits.AccessToken", "hours"),
        ("PreventUserExistenceErrors", "LEGACY"),
        ("EnableTokenRevocation", False),
        ("AllowedOAuthFlows", ["code", "implicit"]),
        ("AllowedOAuthScopes", ["openid", "email", "aws.cognito.signin.user.admin"]),
    ),
    "AWS::Cognito::UserPoolIdentityProvider": (
        ("ProviderName", "acme"),
        ("ProviderName", {"Ref": "Tier"}),
        ("AttributeMapping", {"email": "email", "custom:tenant_id": "custom:tenant_id"}),
        ("AttributeMapping", {"email": "email", "username": "email"}),
        ("ProviderDetails.oidc_issuer", "https://issuer.example"),
        ("ProviderDetails.client_id", "another"),
        ("ProviderDetails.jwks_uri", "https://issuer.example/jwks.json"),
    ),
    "AWS::BedrockAgentCore::Runtime": (
        ("AuthorizerConfiguration", None),
        (f"{_JWT}.AllowedClients", None),
        (f"{_JWT}.AllowedClients", [{"Ref": "UserPoolClient"}, "another"]),
        (f"{_JWT}.DiscoveryUrl", "https://issuer.example/.well-known/openid-configuration"),
        ("RequestHeaderConfiguration.RequestHeaderAllowlist", ["Authorization", "X-Tenant-Id"]),
    ),
    "AWS::BedrockAgentCore::Gateway": (
        ("AuthorizerType", "NONE"),
        ("AuthorizerConfiguration", None),
        (f"{_JWT}.AllowedClients", None),
        (f"{_JWT}.DiscoveryUrl", "https://issuer.example/.well-known/openid-configuration"),
        ("InterceptorConfigurations", None),
        ("InterceptorConfigurations.0.InterceptionPoints", ["RESPONSE"]),
        ("InterceptorConfigurations.0.InputConfiguration.PassRequestHeaders", False),
        ("InterceptorConfigurations.0.Interceptor.Lambda.Arn", {"Fn::GetAtt": ["GatewayToolsFunction", "Arn"]}),
        ("ExceptionLevel", "DEBUG"),
        ("PolicyEngineConfiguration", None),
        ("PolicyEngineConfiguration.Mode", "LOG_ONLY"),
    ),
    "AWS::BedrockAgentCore::Policy": (
        ("ValidationMode", "IGNORE_ALL_FINDINGS"),
        ("ValidationMode", None),
        ("EnforcementMode", "LOG_ONLY"),
    ),
    "AWS::BedrockAgentCore::GatewayTarget": (
        ("MetadataConfiguration.AllowedRequestHeaders", ["X-Tenant-Id", "X-Tenant-Tier", "X-Tenant"]),
        ("CredentialProviderConfigurations", [{"CredentialProviderType": "API_KEY"}]),
        ("CredentialProviderConfigurations", [{"CredentialProviderType": "CALLER_IAM_CREDENTIALS"}]),
    ),
    "AWS::IAM::OIDCProvider": (("ClientIdList", [{"Ref": "UserPoolClient"}, "another"]), ("Url", "https://any")),
    "AWS::S3::Bucket": (
        ("PublicAccessBlockConfiguration", None),
        ("PublicAccessBlockConfiguration.BlockPublicPolicy", False),
        ("PublicAccessBlockConfiguration.RestrictPublicBuckets", None),
        ("OwnershipControls", None),
        ("BucketEncryption", None),
        ("VersioningConfiguration.Status", "Suspended"),
    ),
    "AWS::Bedrock::DataSource": (("DataSourceConfiguration.Type", "S3"),),
    "AWS::S3::BucketPolicy": (
        ("PolicyDocument.Statement.0.Effect", "Allow"),
        ("PolicyDocument.Statement.0.Condition", None),
        ("PolicyDocument.Statement", [{"Effect": "Allow", "Principal": {"AWS": {"Ref": "TenantRole"}}}]),
    ),
    "AWS::DynamoDB::Table": (("ResourcePolicy", {"PolicyDocument": _POLICY}),),
    "AWS::Lambda::Permission": (
        ("SourceAccount", None),
        ("SourceArn", None),
        ("Principal", "*"),
        ("Action", "lambda:*"),
    ),
    "AWS::IAM::Role": (
        ("MaxSessionDuration", 43200),
        ("ManagedPolicyArns", ["arn:aws:iam::aws:policy/AdministratorAccess"]),
    ),
}
"""Settings that let somebody in, for every resource of a type."""


def _weaker(template: Template) -> Iterator[tuple[str, Template]]:
    for kind, properties in FURTHER:
        yield f"a further {kind}", _with(template, kind, properties)
    for name, resource in template["Resources"].items():
        for path, value in WEAKER.get(resource["Type"], ()):
            yield f"{name}: {path} = {value}", _set(template, name, path, value)
        if (kind := resource["Type"]) == "AWS::BedrockAgentCore::GatewayTarget":
            lists = _is_api(kind, resource["Properties"])
            yield f"{name}: lists", _set(template, name, "MetadataConfiguration", _ANY_HEADER if lists else None)
        if resource["Type"] in _OF_A_TENANT and "TenantId" in template.get("Parameters", {}):
            for path in (f"{_JWT}.CustomClaims", f"{_JWT}.CustomClaims.0.AuthorizingClaimMatchValue"):
                yield f"{name}: without {path}", _set(template, name, path, None)
        if kind == _RUNTIME_POLICY:
            kept = {other: found for other, found in template["Resources"].items() if other != name}
            yield f"{name}: gone", {**template, "Resources": kept}
            only = {**kept, name: {**resource, "Condition": "HasTracing"}}
            yield f"{name}: on some stages", {**template, "Resources": only}
            yield from _weaker_runtime_policy(template, name)
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            path = "PolicyDocument.Statement.0.Action"
            yield f"{name}: a further action", _set(template, name, path, ["sts:AssumeRole"])
        if resource["Type"] == "AWS::IAM::Role":
            if "TenantId" in template.get("Parameters", {}):
                yield f"{name}: without boundary", _set(template, name, "PermissionsBoundary", None)
            yield from _weaker_role(template, name)


def _weaker_runtime_policy(template: Template, name: str) -> Iterator[tuple[str, Template]]:
    ask, *_ = allowed = json.loads(template["Resources"][name]["Properties"]["Policy"]["Fn::Sub"])["Statement"]
    weaker = {
        "all that is not denied": [ask],
        "all": [{**ask, "Action": "bedrock-agentcore:*"}],
        "shells": [{**ask, "Action": [ask["Action"], "bedrock-agentcore:InvokeAgentRuntimeCommandShell"]}],
        **{f"without {action}": [ask, {**denied, "Action": [kept for kept in denied["Action"] if kept != action]}]
           for denied in allowed[1:] for action in denied["Action"]},
    }  # fmt: skip
    for change, statements in weaker.items():
        policy = {"Fn::Sub": json.dumps({"Version": "2012-10-17", "Statement": statements})}
        yield f"{name}: {change}", _set(template, name, "Policy", policy)
    yield f"{name}: of another", _set(template, name, "ResourceArn", "arn:aws:bedrock-agentcore:::runtime/another")


def _weaker_role(template: Template, role_name: str) -> Iterator[tuple[str, Template]]:
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if name == role_name:
            documents = [(f"Policies.{n}.PolicyDocument", p["PolicyDocument"])
                         for n, p in enumerate(properties.get("Policies", []))]  # fmt: skip
            documents.append(("AssumeRolePolicyDocument", properties["AssumeRolePolicyDocument"]))
        elif resource["Type"] == "AWS::IAM::Policy" and {"Ref": role_name} in as_list(properties.get("Roles", [])):
            documents = [("PolicyDocument", properties["PolicyDocument"])]
        else:
            continue
        for path, document in documents:
            if "Fn::Sub" in document:
                continue  # for the trust layer
            for number, statement in enumerate(document["Statement"]):
                trusts = path == "AssumeRolePolicyDocument"
                pinned = _is_a_runtimes(template, role_name) if trusts else _is_for_the_runtime(statement)
                if role_name == TENANT_ROLE and not pinned:
                    continue  # for the matrix and the trust layer
                for change, weaker in _weaker_statements(statement, trusts):
                    changed = _set(template, name, f"{path}.Statement.{number}", weaker)
                    yield f"{role_name}: {statement.get('Sid', 'statement')}: {change}", changed


def _weaker_statements(statement: Mapping[str, Any], trusts: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if statement["Effect"] == "Deny":
        yield "another effect", {**statement, "Effect": "Allow"}
        yield "of nothing", {**statement, "Action": "none:Nothing"}
        return
    actions = as_list(statement["Action"])
    yield "a further action", {**statement, "Action": [*actions, "dynamodb:PutItem"]}
    yield "a wider action", {**statement, "Action": actions[0].split(":")[0] + ":*"}
    if trusts:
        yield "anybody", {**statement, "Principal": "*"}
    elif statement["Resource"] != "*":
        yield "any resource", {**statement, "Resource": "*"}
    if "Condition" in statement:
        yield "no condition", {key: value for key, value in statement.items() if key != "Condition"}
        for operator in statement["Condition"]:
            kept = {key: keys for key, keys in statement["Condition"].items() if key != operator}
            yield f"without {operator}", {**statement, "Condition": kept}


def test_every_weaker_stack_is_noticed(templates: dict[str, Template]) -> None:
    tried = 0
    for kind, template in templates.items():
        for name, weaker in _weaker(template):
            tried += 1
            assert next(violations(weaker), None), f"{kind} stack: {name}: not noticed"
    assert tried > 100
