"""What a person sees of a run: colours, comparison modes, spike overlay, worst places, tables, chart, report. No Qt."""
