"""`python -m tonnage`: the same as the command `tonnage`."""

from tonnage.cli import main

raise SystemExit(main())
