"""Settings of nbgrader for these chapters: run `nbgrader generate_assignment 04_gan` and the like in this folder."""

c = get_config()  # noqa: F821  (nbgrader provides it)

# The answer cells hold stubs already: clearing them would take away what is asked for.
c.GenerateAssignment.preprocessors = [f"nbgrader.preprocessors.{name}" for name in (
    "IncludeHeaderFooter", "InstantiateTests", "LockCells", "ClearOutput", "CheckCellMetadata", "ComputeChecksums",
    "SaveCells", "ClearHiddenTests", "ClearMarkScheme", "ComputeChecksums", "CheckCellMetadata")]

c.OverwriteCells.add_missing_cells = True  # a check that a student took out is put back, and counts
c.Execute.timeout = 180                    # seconds for a cell, on a busy machine; no cell that trains is run
c.Execute.iopub_timeout = 60
c.Execute.startup_timeout = 300
c.Execute.error_on_timeout = {"ename": "TimeoutError", "evalue": "", "traceback": ["It ran for too long."]}
