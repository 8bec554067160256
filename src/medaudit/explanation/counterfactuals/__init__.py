"""What would have to change in a graph for another prediction."""
