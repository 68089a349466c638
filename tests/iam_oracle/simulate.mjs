// Judges IAM cases: one JSON object per line on stdin, one verdict per line, in order, on stdout.
import { createInterface } from 'node:readline'
import { runSimulation } from '@cloud-copilot/iam-simulate'

const account = '111122223333'
const everything = {
  Version: '2012-10-17',
  Statement: { Effect: 'Allow', Action: '*', Resource: '*' },
}

async function judge({ policies, trust, principal, action, resource, context }) {
  // A trust policy is judged alone: the caller's own policies allow everything.
  const identity = trust ? [everything] : policies
  const outcome = await runSimulation(
    {
      identityPolicies: identity.map((policy, index) => ({ name: `policy-${index}`, policy })),
      resourcePolicy: trust ? policies[0] : undefined,
      serviceControlPolicies: [],
      resourceControlPolicies: [],
      request: {
        principal,
        action,
        resource: { resource, accountId: account },
        contextVariables: context,
      },
    },
    {},
  )
  if (outcome.resultType !== 'single') {
    return { error: JSON.stringify(outcome.errors ?? outcome.resultType) }
  }
  return { verdict: outcome.overallResult, ignored: outcome.result.ignoredContextKeys }
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  let answer
  try {
    answer = await judge(JSON.parse(line))
  } catch (error) {
    answer = { error: String(error) }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
