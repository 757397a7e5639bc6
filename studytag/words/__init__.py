"""What words tell of a text's labels, and of which of its parts are worth reading."""
