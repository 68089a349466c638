"""What is deployed, and how: templates, the code's zips, and the way of both to a stage."""
