"""A tenant-aware agent on Amazon Bedrock AgentCore. Start reading at `main.py`: it is the way of a request."""
