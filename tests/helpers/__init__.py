"""What several test files share: tiny models, killable processes, published files, servers that misbehave."""
