complete --keep-order --exclusive --command variantctl --arguments "(COMPLETE=fish variantctl -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
