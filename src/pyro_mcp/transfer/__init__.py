"""File trees and archives of the host on their way into a workspace and back; nothing of guests."""
