"""Trackers: what a run logs to CSV, TensorBoard or MLflow. Nothing here changes what is computed."""
