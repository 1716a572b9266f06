# What `cmake --install` and `cpack -G DEB` bring: the libraries with their headers, for CMake and for pkg-config, and
# the command. Public headers lie in a folder of our own, so that "layers/layers.hpp" means ours.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(header_dir ${CMAKE_INSTALL_INCLUDEDIR}/attention_surgeon)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/attention_surgeon)
set(generated ${PROJECT_BINARY_DIR}/package)

# ---- find_package(attention_surgeon), with COMPONENTS lab for surgeon::lab ------------------------------------------
set(find_openmp "")
if(SURGEON_OPENMP)
  set(find_openmp "find_dependency(OpenMP COMPONENTS CXX)")
endif()
file(CONFIGURE OUTPUT ${generated}/attention_surgeonConfig.cmake @ONLY CONTENT [[
include(CMakeFindDependencyMacro)
find_dependency(ZLIB)
@find_openmp@
include(${CMAKE_CURRENT_LIST_DIR}/attention_surgeonTargets.cmake)
set(attention_surgeon_framework_FOUND TRUE)
set(attention_surgeon_layers_FOUND TRUE)
if("lab" IN_LIST attention_surgeon_FIND_COMPONENTS AND EXISTS ${CMAKE_CURRENT_LIST_DIR}/attention_surgeonLab.cmake)
  find_dependency(fmt)
  include(${CMAKE_CURRENT_LIST_DIR}/attention_surgeonLab.cmake)
  set(attention_surgeon_lab_FOUND TRUE)
endif()
foreach(component IN LISTS attention_surgeon_FIND_COMPONENTS)
  if(attention_surgeon_FIND_REQUIRED_${component} AND NOT attention_surgeon_${component}_FOUND)
    set(attention_surgeon_FOUND FALSE)
    set(attention_surgeon_NOT_FOUND_MESSAGE "this installation of attention_surgeon has no component \"${component}\"")
  endif()
endforeach()
]])
write_basic_package_version_file(${generated}/attention_surgeonConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${generated}/attention_surgeonConfig.cmake ${generated}/attention_surgeonConfigVersion.cmake
        DESTINATION ${package_dir})
install(TARGETS surgeon_framework surgeon_layers EXPORT attention_surgeonTargets
        FILE_SET HEADERS DESTINATION ${header_dir})
install(EXPORT attention_surgeonTargets NAMESPACE surgeon:: DESTINATION ${package_dir})

# ---- pkg-config: surgeon-framework, surgeon-layers, surgeon-lab; all are static, so each names what it stands on -----
set(pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY ${CMAKE_INSTALL_PREFIX}/${pc_dir} OUTPUT_VARIABLE prefix)
string(REPLACE ";" " " blas "${SURGEON_BLAS}")
function(surgeon_pkg_config name libraries requires)
  file(CONFIGURE OUTPUT ${generated}/surgeon-${name}.pc @ONLY CONTENT [[
prefix=${pcfiledir}/@prefix@
Name: surgeon-@name@
Description: Attention Surgeon, @name@ (C++20)
Version: @PROJECT_VERSION@
Requires: @requires@
Cflags: -I${prefix}/@header_dir@
Libs: -L${prefix}/@CMAKE_INSTALL_LIBDIR@ -lsurgeon_@name@ @libraries@
]])
  install(FILES ${generated}/surgeon-${name}.pc DESTINATION ${pc_dir})
endfunction()
surgeon_pkg_config(framework "${blas} ${OpenMP_CXX_FLAGS}" "zlib")
surgeon_pkg_config(layers "" surgeon-framework)

# ---- surgeon::lab and the command ----------------------------------------------------------------------------------
if(SURGEON_COMMAND)
  install(TARGETS surgeon_lab EXPORT attention_surgeonLab FILE_SET HEADERS DESTINATION ${header_dir})
  install(EXPORT attention_surgeonLab NAMESPACE surgeon:: DESTINATION ${package_dir})
  surgeon_pkg_config(lab "" "surgeon-framework fmt")
  install(TARGETS surgeon)
  # What `train text` reads by default, ../share from the program. experiments/set_up.sh makes it.
  install(FILES ${PROJECT_SOURCE_DIR}/build/share/attention_surgeon/king_james.txt
          DESTINATION share/attention_surgeon OPTIONAL)
endif()

# ---- libsurgeon.so, and what calls it from Python -------------------------------------------------------------------
if(TARGET surgeon_shared)
  install(TARGETS surgeon_shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(FILES ${PROJECT_SOURCE_DIR}/experiments/surgeon.h DESTINATION ${header_dir}/experiments)
  install(FILES ${PROJECT_SOURCE_DIR}/experiments/surgeon.py DESTINATION share/attention_surgeon)
endif()
install(FILES LICENSE CHANGELOG.md CITATION.cff DESTINATION ${CMAKE_INSTALL_DOCDIR})

# ---- cpack -G DEB --------------------------------------------------------------------------------------------------
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME attention-surgeon)
set(CPACK_PACKAGE_CONTACT "Attention Surgeon contributors <contributors@attention-surgeon.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "what happens inside attention: measurements, figures, C++ libraries")
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "gnuplot-nox | gnuplot")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "g++, libopenblas-dev, zlib1g-dev, libfmt-dev")
include(CPack)
