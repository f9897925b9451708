"""The commands of ``sparse-rcnn-lab``, one a file ``cmd_NAME.py``; ``main.py`` has the parser.

Each command has ``HELP`` (a summary line, then what stands below the options),
``add_arguments(parser)`` and ``run(arguments) -> exit code``. Torch is imported inside
``run`` only.
"""
