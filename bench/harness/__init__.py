"""What every benchmark needs: the machine, interleaved timing, and where results are kept."""
