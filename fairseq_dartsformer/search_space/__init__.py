"""What is searched: families and genotypes, alpha and its relaxation, the mixed operation."""
