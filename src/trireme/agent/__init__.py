"""The process beside one tritonserver: is it ready, how loaded is it, and may it be ended?"""
