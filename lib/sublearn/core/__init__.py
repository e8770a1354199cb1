"""What every room needs: named random streams, the machine at hand, results on disk."""
