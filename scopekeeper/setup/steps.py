"""All steps of ``setup``, in the order in which they are done. A new one is an entry here."""

from scopekeeper.setup.client_hooks import ClientHooks
from scopekeeper.setup.gateways import Gateways
from scopekeeper.setup.keeper import KeeperUnits
from scopekeeper.setup.lingering import Lingering
from scopekeeper.setup.mcp_servers import McpServers
from scopekeeper.setup.openclaw_gateway import OpenClawGateway
from scopekeeper.setup.shell_commands import ShellCommands
from scopekeeper.setup.step import Step

STEPS: tuple[Step, ...] = (
    McpServers(),
    ClientHooks(),
    ShellCommands(),
    OpenClawGateway(),
    KeeperUnits(),
    Gateways(),
    Lingering(),
)
