"""What holds for every IM Type, as test classes to be inherited."""
