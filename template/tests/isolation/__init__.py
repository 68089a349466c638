"""The proof that no tenant reaches another, layer by layer, on the policies as deployed."""
