"""Reinforcement learning of the policy that writes input-output pairs."""
