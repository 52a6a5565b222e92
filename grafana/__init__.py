"""What operators load into Prometheus and Grafana, made by `python -m moorings.grafana`."""
