"""From the scores of a group to who of it is to be made likelier."""
