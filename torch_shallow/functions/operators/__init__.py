"""The operators that evaluate a shallow network, registered with torch: `torch.ops.torch_shallow`."""
