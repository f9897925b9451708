"""Pictures, figures and pages of what the detector did; all of them views of a trace."""
