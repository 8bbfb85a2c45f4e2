"""The specification's example: features of one prediction, to the queue of a profile, over gRPC.

``SCOUTER_GRPC_URI`` names another server than ``http://localhost:50051``.
"""

import os
from pathlib import Path

from scouter import Feature, Features, ScouterQueue
from scouter.transport import GrpcConfig

PROFILE = Path(__file__).parents[1] / "queue" / "profile.json"

# Configure gRPC transport
config = GrpcConfig(server_uri=os.environ.get("SCOUTER_GRPC_URI", "http://localhost:50051"))

# Create queue with gRPC transport
queue = ScouterQueue.from_path({"model-v1": PROFILE}, transport_config=config)

# Insert features (async publish via gRPC)
features = Features(
    features=[
        Feature.float("temperature", 23.5),
        Feature.int("requests", 1200),
        Feature.string("region", "us-west-2"),
    ]
)
queue["model-v1"].insert(features)

# Graceful shutdown
report = queue.shutdown()
print(f"delivered {report.delivered} records, {report.undelivered} not delivered")
