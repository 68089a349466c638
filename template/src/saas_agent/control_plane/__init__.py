"""The life of a tenant: onboarded, suspended, resumed, accounted for. For operators."""
