"""What a run tells of itself to others while it goes on: TensorBoard, MLflow, CSV.

Nothing here may change what is computed, or end it.
"""
