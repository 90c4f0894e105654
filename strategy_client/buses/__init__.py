"""Where messages come from and go to: brokers on the network, files, standard input and output."""
