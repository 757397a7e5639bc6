"""What does each choice of the training recipe give, on sources that training never saw?"""
