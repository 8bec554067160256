"""What does this explanation assume, and what if we assumed otherwise?"""
