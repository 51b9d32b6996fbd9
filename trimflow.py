"""TrimFlow for Python users: `import trimflow` with this directory on the path (docs/pruner_api.md)."""

from compressors.pruner_api import AGP_Pruner, LevelPruner, LotteryTicketPruner, SearchPruner
from compressors.scheduler import CompressionScheduler

__all__ = ["AGP_Pruner", "CompressionScheduler", "LevelPruner", "LotteryTicketPruner", "SearchPruner"]
