"""What happens to queued mail: routing, schedule, channels, bounces, cleaning."""
