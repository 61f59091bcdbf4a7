"""The MCP server: chat hosts' way to workspaces, over stdio. `serve` starts it; `front` keeps its start quick."""
