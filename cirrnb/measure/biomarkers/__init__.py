"""What a radiologist measures of a cirrhotic liver, in units, from the scan as it was acquired."""
