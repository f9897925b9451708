"""The commands of ``sparse-rcnn-lab``, each in a file ``cmd_NAME.py``; ``main.py`` has the parser.

Each command has ``HELP`` (a summary line, then what stands below the options),
``add_arguments(parser)`` and ``run(arguments) -> exit code``. Torch is imported inside ``run``
only. A command writes its files before it prints what is in them. Options and types of arguments
that several commands have are in ``common.py``.

Public: ``main.main(argv)``, which runs one command and returns its exit code. This room may import
every other one.
"""
