"""What would have to change in a graph for another prediction, and can the answer be trusted?"""
