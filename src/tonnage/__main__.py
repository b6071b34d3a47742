from tonnage.cli import main

raise SystemExit(main())
