/** What was just done, as a command: the key stands as $KEY, never its secret. */
