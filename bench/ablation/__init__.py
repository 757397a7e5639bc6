"""What each choice of the training recipe gives, on sources that training never saw."""
