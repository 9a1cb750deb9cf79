"""What people say of labels: a page to listen and correct, and the files that answers come from and
go to."""
