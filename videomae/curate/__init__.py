"""From raw videos to a clip list whose every decision can be seen and taken back."""
