"""Model families: what the flow needs to know of each, and the readers that they share."""
